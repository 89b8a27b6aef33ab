mod initiators;
mod keys;
mod shared;

use super::*;

const GOOD: &str = r#"
[system]
id = "HF-A"
state_dir = "/var/lib/holdfast"

[iscsi]
portals = ["127.0.0.1:3260", "[::1]:3260"]

[[volume]]
number = 1
name = "prod"
size = "10GiB"
file = "/srv/prod.img"
quota = "6GiB"
direct = true
naa = "60248460000000010000000000000002"
eui64 = "0248460000000007"
uuid = "0F8FAD5B-d9cb-469f-a165-70867728950e"

[[volume]]
number = 2
name = "bcv"
class = "mirror"
size = 10737418240
memory = true
block_size = 512
physical_block_size = 4096
removable = true
thin = false

[[target]]
iqn = "iqn.2026-11.org.example:t1"
luns = [{ lun = 0, volume = 1 }, { lun = 1, volume = 2, read_only = true }]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("a.toml", text, [])
}

/// `(key, text)` of everything wrong with the text.
fn faults(text: &str) -> Vec<(String, String)> {
    match parse(text) {
        Err(ConfigError::Invalid(problems)) => problems
            .found()
            .iter()
            .map(|p| (p.key.clone(), p.text.clone()))
            .collect(),
        other => panic!("should be refused: {other:?}"),
    }
}

/// [`GOOD`] with one text in place of another.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?}");
    GOOD.replacen(from, to, 1)
}

/// The configuration has exactly one fault, at `key`, and its text says `says`.
#[track_caller]
fn one_fault(text: &str, key: &str, says: &str) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, key, "{found:?}");
    assert!(
        found[0].1.contains(says),
        "{:?} does not say {says:?}",
        found[0].1
    );
}

fn portal(address: &str, group: u16) -> Portal {
    Portal {
        address: address.parse().unwrap(),
        group,
    }
}

#[test]
fn everything_is_taken_over() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.system.id.as_str(), "HF-A");
    assert_eq!(config.system.track_size, 65_536);
    assert_eq!(config.portals.len(), 2);
    assert_eq!(config.admin.socket, Path::new("/var/lib/holdfast/admin.sock"));
    assert_eq!(config.admin.http, None);
    let prod = &config.volumes[&1];
    assert_eq!(
        (prod.size, prod.block_size, prod.physical_block_size),
        (Some(10 << 30), 512, 512)
    );
    assert!(prod.thin && !prod.mirror && !prod.removable);
    assert_eq!((prod.quota, config.volumes[&2].quota), (Some(6 << 30), None));
    assert!(prod.direct && !config.volumes[&2].direct);
    assert_eq!(prod.naa.unwrap()[..4], [0x60, 0x24, 0x84, 0x60]);
    assert_eq!(prod.designators.eui64, Some([2, 0x48, 0x46, 0, 0, 0, 0, 7]));
    assert_eq!(prod.designators.uuid.unwrap()[..4], [0x0f, 0x8f, 0xad, 0x5b]);
    let bcv = &config.volumes[&2];
    assert_eq!(
        (bcv.size, bcv.physical_block_size, &bcv.media),
        (Some(10 << 30), 4096, &Media::Memory)
    );
    assert!(!bcv.thin && bcv.mirror && bcv.removable);
    let target = &config.targets["iqn.2026-11.org.example:t1"];
    assert_eq!(
        target.luns[&1],
        LunConfig {
            volume: 2,
            read_only: true
        }
    );
}

/// Decision 10 of docs/pairs.md: resuming is on, and is turned off for all pairs or for some.
#[test]
fn resuming_is_left_to_commands_for_all_pairs_or_for_some() {
    let replication = |text: &str| {
        parse(&format!("{GOOD}\n[replication]\n{text}"))
            .unwrap()
            .replication
    };
    assert!(replication("").auto_resume && replication("").resume_by_command.is_empty());
    assert!(!replication("auto_resume = false").auto_resume);
    let some = replication("resume_by_command = [2]");
    assert!(some.auto_resume && some.resume_by_command.contains(&2));
    one_fault(
        &format!("{GOOD}\n[replication]\nresume_by_command = [9]"),
        "replication.resume_by_command",
        "no volume 9",
    );
}

/// RFC 4171: where to register is a host and a port; who registers is named by the file, or after the system.
#[test]
fn a_name_server_has_a_host_and_a_port() {
    let isns = |text: &str| parse(&format!("{GOOD}\n[isns]\n{text}")).unwrap().isns;
    let expected = |server: &str| {
        Some(Isns {
            server: server.to_owned(),
            entity: None,
            esi_interval: 60,
        })
    };
    for server in ["isns.example.org:3205", "192.0.2.5:3205", "[2001:db8::5]:3205"] {
        assert_eq!(isns(&format!("server = {server:?}")), expected(server));
    }
    let set = isns("server = \"a:1\"\nentity = \"e\"\nesi_interval = 0").unwrap();
    assert_eq!((set.entity.as_deref(), set.esi_interval), (Some("e"), 0));
    for server in [
        "",
        "isns",
        ":3205",
        "isns:",
        "isns:0",
        "isns:65536",
        "2001:db8::5:3205",
        "a b:1",
    ] {
        let text = format!("{GOOD}\n[isns]\nserver = {server:?}");
        one_fault(&text, "isns.server", "HOST:PORT is");
    }
    let text = format!("{GOOD}\n[isns]\nserver = \"a:1\"\nentity = \"\"");
    one_fault(&text, "isns.entity", "1 to 255 bytes");
}

#[test]
fn a_target_may_have_an_alias() {
    let aliased = |alias: &str| with("\nluns = [", &format!("\nalias = {alias:?}\nluns = ["));
    let config = parse(&aliased("the database")).unwrap();
    let target = &config.targets["iqn.2026-11.org.example:t1"];
    assert_eq!(target.alias.as_deref(), Some("the database"));
    for alias in [String::new(), "x".repeat(256)] {
        one_fault(&aliased(&alias), "target[1].alias", "1 to 255 bytes");
    }
}

#[test]
fn the_embedded_default_is_the_pinned_one() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.system.id.as_str(), "HOLDFAST-1");
    assert_eq!(config.portals, [portal("127.0.0.1:3260", 1)]);
    assert_eq!(config.admin.http, Some("127.0.0.1:3280".parse().unwrap()));
    assert_eq!(config.admin.socket, Path::new("./holdfast-data/admin.sock"));
    let volumes: Vec<_> = config
        .volumes
        .values()
        .map(|v| (v.number, v.name.as_str(), v.mirror, v.size))
        .collect();
    let gib = Some(1 << 30);
    assert_eq!(
        volumes,
        [
            (1, "prod", false, gib),
            (2, "bcv1", true, gib),
            (3, "bcv2", true, gib)
        ]
    );
    let target = &config.targets["iqn.2026-11.io.holdfast:default"];
    let luns: Vec<_> = target.luns.iter().map(|(lun, map)| (*lun, map.volume)).collect();
    assert_eq!(luns, [(0, 1), (1, 2), (2, 3)]);
    assert!(target.initiators.is_empty());
}

#[test]
fn the_embedded_default_lies_in_one_directory_wherever_it_is_put() {
    let variable = ("HOLDFAST__SYSTEM__STATE_DIR".to_owned(), "/srv/hf".to_owned());
    let config = Config::load(None, [variable.clone()]).unwrap();
    assert_eq!(config.admin.socket, Path::new("/srv/hf/admin.sock"));
    let files: Vec<_> = config.volumes.values().map(|v| v.media.clone()).collect();
    let file = |name: &str| Media::File(Path::new("/srv/hf").join(name));
    assert_eq!(files, [file("prod.img"), file("bcv1.img"), file("bcv2.img")]);
    assert_eq!(
        config.generations.directory.as_deref(),
        Some(Path::new("/srv/hf/generations"))
    );
    let other = (
        "HOLDFAST__GENERATIONS__DIRECTORY".to_owned(),
        "/srv/generations".to_owned(),
    );
    let config = Config::load(None, [variable, other]).unwrap();
    assert_eq!(
        config.generations.directory.as_deref(),
        Some(Path::new("/srv/generations"))
    );
}

#[test]
fn no_toml() {
    one_fault("[system]\nid = = 3", "line 2", "TOML");
}

#[test]
fn unknown_keys() {
    one_fault(
        &format!("{GOOD}\n[sytsem]\n"),
        "sytsem",
        "accepted are system, iscsi",
    );
    one_fault(
        &with("id = \"HF-A\"", "id = \"HF-A\"\nname = 1"),
        "system",
        "unknown field `name`, expected one of `id`",
    );
    one_fault(
        &with("thin = false", "slim = true"),
        "volume[2]",
        "unknown field `slim`",
    );
    one_fault(&with("lun = 0", "luun = 0"), "target[1]", "unknown field `luun`");
    let typo = format!("{GOOD}\n[link]\nport = 1\n");
    one_fault(&typo, "link", "unknown field `port`");
}

#[test]
fn wrong_types() {
    one_fault(
        &with("thin = false", "thin = \"no\""),
        "volume[2]",
        "expected a boolean",
    );
    one_fault(&with("number = 1", "number = -1"), "volume[1]", "expected u32");
    one_fault(
        &with("size = \"10GiB\"", "size = true"),
        "volume[1]",
        "a size is accepted",
    );
    one_fault(
        &format!(
            "volume = 3\n{}",
            GOOD.replace("[[volume]]", "[[target]]")
                .split("[[target]]")
                .next()
                .unwrap()
        ),
        "volume",
        "[[volume]]",
    );
}

#[test]
fn system() {
    one_fault(&with("HF-A", "HF A"), "system.id", "1 to 16 characters");
    one_fault(&with("id = \"HF-A\"", ""), "system.id", "is needed");
    one_fault(
        &with("state_dir = \"/var/lib/holdfast\"", ""),
        "system.state_dir",
        "is needed",
    );
    for size in ["4KiB", "2MiB", "100KiB"] {
        let text = with(
            "id = \"HF-A\"",
            &format!("id = \"HF-A\"\ntrack_size = \"{size}\""),
        );
        one_fault(&text, "system.track_size", "a power of two from 8KiB to 1MiB");
    }
    one_fault("", "system, iscsi", "both tables are needed");
}

#[test]
fn addresses() {
    one_fault(
        &with("127.0.0.1:3260", "localhost"),
        "iscsi.portals",
        "ADDRESS:PORT",
    );
    one_fault(
        &with("[::1]:3260", "127.0.0.1:3260"),
        "iscsi.portals",
        "listed twice",
    );
    let text = with("[iscsi]", "[iscsi]\nerror_recovery_level = 3");
    one_fault(&text, "iscsi.error_recovery_level", "0 to 2");
    for count in ["0", "65", "-1", "100000"] {
        let text = with("[iscsi]", &format!("[iscsi]\nmax_connections = {count}"));
        one_fault(&text, "iscsi.max_connections", "1 to 64");
    }
    for microseconds in ["-1", "1001"] {
        let text = with("[iscsi]", &format!("[iscsi]\nlook_before_sleep = {microseconds}"));
        one_fault(&text, "iscsi.look_before_sleep", "0 to 1000");
    }
    one_fault(
        &with("[\"127.0.0.1:3260\", \"[::1]:3260\"]", "[]"),
        "iscsi.portals",
        "at least one",
    );
    one_fault(
        &format!("{GOOD}\n[admin]\nhttp = \"3280\""),
        "admin.http",
        "ADDRESS:PORT",
    );
    let long = format!("{GOOD}\n[admin]\nsocket = \"/{}\"", "x".repeat(107));
    one_fault(&long, "admin.socket", "at most 107");
}

#[test]
fn portals_are_in_groups_and_targets_are_reached_through_some() {
    let grouped = |group: &str| {
        with(
            "\"[::1]:3260\"",
            &format!("{{ address = \"[::1]:3260\", group = {group} }}"),
        )
    };
    let config = parse(&grouped("2")).unwrap();
    assert_eq!(
        config.portals,
        [portal("127.0.0.1:3260", 1), portal("[::1]:3260", 2)]
    );
    let iqn = "iqn.2026-11.org.example:t1";
    assert_eq!(config.targets[iqn].groups(&config.portals), [1, 2].into());
    for group in ["0", "65536", "-1"] {
        one_fault(&grouped(group), "iscsi.portals", "1 to 65535");
    }
    one_fault(&grouped("2, tag = 1"), "iscsi", "a portal is accepted");
    let reached =
        |groups: &str| grouped("2").replace("\nluns = [", &format!("\nportal_groups = {groups}\nluns = ["));
    let config = parse(&reached("[2]")).unwrap();
    assert_eq!(config.targets[iqn].groups(&config.portals), [2].into());
    one_fault(&reached("[]"), "target[1].portal_groups", "at least one");
    one_fault(&reached("[2, 2]"), "target[1].portal_groups", "given twice");
    one_fault(&reached("[1, 0]"), "target[1].portal_groups", "1 to 65535");
    one_fault(&reached("[1, 3]"), &format!("target {iqn}"), "there are 1, 2");
    let many: Vec<String> = (1..=65)
        .map(|group| format!("{{ address = \"127.0.0.1:{group}\", group = {group} }}"))
        .collect();
    let many = with("\"[::1]:3260\"", &many.join(", "));
    assert!(
        faults(&many)
            .iter()
            .any(|(_, text)| text.contains("up to 64 portal groups"))
    );
    // An open target is only where this machine is.
    let elsewhere = reached("[1]").replace("[::1]:3260", "192.0.2.1:3260");
    assert!(parse(&elsewhere).is_ok());
    one_fault(
        &reached("[2]").replace("[::1]:3260", "192.0.2.1:3260"),
        &format!("target {iqn}"),
        "any initiator may log in",
    );
}

/// S3: one file is never two volumes.
#[test]
fn volumes() {
    one_fault(&with("\"prod\"", "\"12\""), "volume[1].name", "not digits alone");
    one_fault(&with("\"prod\"", "\"\""), "volume[1].name", "1 to 32 bytes");
    one_fault(&with("\"prod\"", "\"a b\""), "volume[1].name", "letters, digits");
    one_fault(
        &with("\"bcv\"", "\"prod\""),
        "volume[2].name",
        "taken by volume 1",
    );
    one_fault(
        &with("\"mirror\"", "\"bcv\""),
        "volume[2].class",
        "\"standard\" or \"mirror\"",
    );
    one_fault(&with("10GiB", "10 parsecs"), "volume[1].size", "is no size");
    one_fault(
        &with("memory = true", "memory = true\ndirect = true"),
        "volume[2].direct",
        "a file or a block device",
    );
    one_fault(
        &with("thin = false", "thin = false\nquota = \"1GiB\""),
        "volume[2].quota",
        "a thin volume on a file",
    );
    one_fault(
        &with("\"60248460", "\"50248460"),
        "volume[1].naa",
        "the first a 6",
    );
    let twice = with(
        "thin = false",
        "thin = false\nnaa = \"60248460000000010000000000000002\"",
    );
    one_fault(&twice, "volume[2].naa", "of volume prod already");
    let same_serial = with(
        "thin = false",
        "thin = false\nnaa = \"60248460000000020000000000000002\"",
    );
    one_fault(
        &same_serial,
        "volume[2].naa",
        "the last 16 digits are the serial number",
    );
    let also = |line: &str| with("thin = false", &format!("thin = false\n{line}"));
    one_fault(
        &also("eui64 = \"0248\""),
        "volume[2].eui64",
        "16 hexadecimal digits",
    );
    one_fault(&also("uuid = \"0248\""), "volume[2].uuid", "a UUID like");
    one_fault(
        &also("eui64 = \"0248460000000007\""),
        "volume[2].eui64",
        "of volume prod already",
    );
    one_fault(
        &also("uuid = \"0f8fad5b-d9cb-469f-a165-70867728950e\""),
        "volume[2].uuid",
        "of volume prod already",
    );
    one_fault(&with("6GiB", "six"), "volume[1].quota", "is no size");
    one_fault(&with("10GiB", "1000B"), "volume[1].size", "a multiple of 512");
    one_fault(
        &with("size = 10737418240", ""),
        "volume[2].size",
        "is needed for a volume in memory",
    );
    one_fault(
        &with("physical_block_size = 4096", "physical_block_size = 1024"),
        "volume[2].physical_block_size",
        "512 or 4096",
    );
    one_fault(&with("memory = true", ""), "volume[2].file", "either file");
    one_fault(
        &with("memory = true", "memory = true\nfile = \"x\""),
        "volume[2].file",
        "either file",
    );
    one_fault(
        &with("memory = true", "file = \"/srv/prod.img\""),
        "volume[2].file",
        "file of volume prod",
    );
    let number = faults(&with("number = 1", "number = 4294967294"));
    assert_eq!(number[0].0, "volume[1].number");
    assert_eq!(
        number[1].0, "target[1].luns[1].volume",
        "the LUN map names volume 1"
    );
}

#[test]
fn targets() {
    one_fault(
        &with("iqn.2026-11.org.example:t1", "iqn.today:t1"),
        "target[1].iqn",
        "iqn.YYYY-MM",
    );
    one_fault(
        &with("lun = 1", "lun = 0"),
        "target[1].luns[2].lun",
        "given twice",
    );
    one_fault(
        &with("lun = 1", "lun = 16384"),
        "target[1].luns[2].lun",
        "0 to 16383",
    );
    one_fault(
        &with("volume = 2", "volume = 7"),
        "target[1].luns[2].volume",
        "accepted are 1, 2",
    );
    let twice = format!("{GOOD}\n[[target]]\niqn = \"IQN.2026-11.org.example:T1\"\n");
    one_fault(&twice, "target[2].iqn", "another target");
}

#[test]
fn silent_initiators_are_asked_when_the_target_says() {
    let asked = |text: &str| with("\nluns = [", &format!("\n{text}\nluns = ["));
    let times = |text: &str| {
        let times = parse(&asked(text)).unwrap().targets["iqn.2026-11.org.example:t1"].keepalive;
        (
            times.interval.map(|time| time.as_secs()),
            times.patience.as_secs(),
        )
    };
    assert_eq!(times(""), (Some(15), 30));
    assert_eq!(times("nop_interval = 0"), (None, 30));
    assert_eq!(times("nop_interval = 3600\nnop_patience = 1"), (Some(3600), 1));
    for seconds in ["-1", "3601"] {
        let interval = format!("nop_interval = {seconds}");
        one_fault(&asked(&interval), "target[1].nop_interval", "0 for never");
    }
    for seconds in ["-1", "0", "3601"] {
        let patience = format!("nop_patience = {seconds}");
        one_fault(&asked(&patience), "target[1].nop_patience", "1 to 3600 seconds");
    }
}

#[test]
fn an_open_target_stays_on_loopback() {
    let open = with("\"[::1]:3260\"", "\"0.0.0.0:3260\"");
    one_fault(
        &open,
        "target iqn.2026-11.org.example:t1",
        "any initiator may log in",
    );
    assert!(parse(&format!("{open}\n[[target.initiator]]\nname = \"*\"\n")).is_ok());
}

#[test]
fn all_faults_at_once_each_with_the_file() {
    let text = GOOD
        .replace("HF-A", "HF A")
        .replace("10GiB", "ten")
        .replace("thin = false", "slim = 1")
        .replace("iqn.2026", "2026");
    let message = parse(&text).unwrap_err().to_string();
    for line in [
        "a.toml: system.id: ",
        "a.toml: volume[1].size: ",
        "a.toml: volume[2]: ",
        "a.toml: target[1].iqn: ",
    ] {
        assert!(
            message.lines().any(|l| l.starts_with(line)),
            "{line} is not in\n{message}"
        );
    }
}

#[test]
fn environment_overrides_scalars() {
    let set =
        |variable: &str, text: &str| Config::parse("a.toml", GOOD, [(variable.to_owned(), text.to_owned())]);
    assert_eq!(
        set("HOLDFAST__SYSTEM__ID", "123").unwrap().system.id.as_str(),
        "123"
    );
    assert_eq!(
        set("HOLDFAST__SYSTEM__TRACK_SIZE", "128KiB")
            .unwrap()
            .system
            .track_size,
        1 << 17
    );
    assert_eq!(set("HOLDFAST__SYSTEM__WORKERS", "3").unwrap().system.workers, 3);
    let stealing = set("HOLDFAST__SYSTEM__WORK_STEALING", "false");
    assert!(!stealing.unwrap().system.work_stealing);
    assert_eq!(
        set("HOLDFAST__ISCSI__PORTALS", "127.0.0.1:1, [::1]:2")
            .unwrap()
            .portals
            .len(),
        2
    );
    let http = set("HOLDFAST__ADMIN__HTTP", "127.0.0.1:8080").unwrap().admin.http;
    assert_eq!(
        http,
        Some("127.0.0.1:8080".parse().unwrap()),
        "a section that the file lacks"
    );
    assert!(set("HOLDFAST__REPLICATION__COPY_RATE", "1MiB").is_ok());
    assert!(set("HOLDFAST__ADMIN__SOCKET", "/run/a.sock").is_ok());
    assert!(set("HOLDFAST__SYSTEM__STATE_DIR", "/tmp/x").is_ok());
    assert!(set("HOLDFAST_ADMIN", "not ours").is_ok());
    assert!(set("HOLDFAST__SYSTEM__ID", "").is_ok(), "empty is not set");

    let typo = set("HOLDFAST__SYSTEM__IDD", "x").unwrap_err().to_string();
    assert!(
        typo.contains("HOLDFAST__SYSTEM__IDD: no such scalar; accepted are HOLDFAST__SYSTEM__ID,"),
        "{typo}"
    );
    let resume = |text| set("HOLDFAST__REPLICATION__AUTO_RESUME", text);
    assert!(!resume("false").unwrap().replication.auto_resume);
    let maybe = resume("maybe").unwrap_err().to_string();
    assert!(maybe.contains("true or false"), "{maybe}");
    let factor = |text| set("HOLDFAST__REPLICATION__LATENCY_FACTOR", text);
    let percent = |text| factor(text).unwrap().replication.latency_factor;
    assert_eq!(
        [percent(""), percent("1.5"), percent("3"), percent("0")],
        [200, 150, 300, 0]
    );
    for text in ["0.5", "-1", "101", "NaN", "inf"] {
        let refused = factor(text).unwrap_err().to_string();
        assert!(refused.contains("1.1 to 100"), "{refused}");
    }
    let hold = |text| set("HOLDFAST__REPLICATION__LONGEST_HOLD", text);
    let milliseconds = |text| hold(text).unwrap().replication.longest_hold.as_millis();
    assert_eq!(
        [milliseconds(""), milliseconds("0.05"), milliseconds("0")],
        [5000, 50, 0]
    );
    for text in ["-1", "61", "NaN"] {
        let refused = hold(text).unwrap_err().to_string();
        assert!(refused.contains("0 to 60 seconds"), "{refused}");
    }
    let number = set("HOLDFAST__SYSTEM__WORKERS", "many").unwrap_err().to_string();
    assert!(number.contains("a whole number"), "{number}");
}

#[test]
fn a_file_that_is_not_there() {
    let error = Config::load(Some(Path::new("/nonexistent/a.toml")), []).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/a.toml: cannot be read: "),
        "{error}"
    );
}

const LINK: &str = r#"
[link]
listen = "127.0.0.1:3261"
cert = "/nowhere/a.pem"
key = "/nowhere/a.key"
ca = "/nowhere/ca.pem"
"#;

#[test]
fn a_link_needs_an_address_and_certificates_that_are_there() {
    one_fault(
        &format!("{GOOD}{LINK}"),
        "link.cert",
        "/nowhere/a.pem cannot be read",
    );
    let listen = LINK.replace("127.0.0.1:3261", "everywhere");
    one_fault(
        &format!("{GOOD}{listen}"),
        "link.listen",
        "ADDRESS:PORT is needed",
    );
    let empty = faults(&format!("{GOOD}[link]\n"));
    let keys: Vec<&str> = empty.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["link.listen", "link.cert", "link.key", "link.ca"]);
    let environment = [("HOLDFAST__LINK__CERT".to_owned(), "/elsewhere/a.pem".to_owned())];
    let error = Config::parse("a.toml", &format!("{GOOD}{LINK}"), environment).unwrap_err();
    assert!(
        error.to_string().contains("/elsewhere/a.pem cannot be read"),
        "{error}"
    );
}

#[test]
fn peers_need_a_link_an_id_of_their_own_and_an_address() {
    let peer = |id: &str, address: &str| format!("[[peer]]\nid = \"{id}\"\naddress = \"{address}\"\n");
    let alone = format!("{GOOD}{}", peer("HF-B", "127.0.0.1:3361"));
    one_fault(&alone, "peer[1]", "needs [link]");
    for (peers, key, says) in [
        (peer("HF-B", "127.0.0.1"), "peer[1].address", "HOST:PORT is"),
        (peer("HF-B", "b.example.org:0"), "peer[1].address", "HOST:PORT is"),
        (
            peer("HF-B", "b:1") + "compression = \"gzip\"\n",
            "peer[1].compression",
            "\"none\", \"lz4\" and \"zstd\" are",
        ),
        (
            peer("HF-B", "b:1") + "queue = { size = \"1MiB\" }\n",
            "peer[1].queue.size",
            "64MiB and more is",
        ),
        (
            peer("HF-B", "b:1") + "queue = { size = \"8 bytes\" }\n",
            "peer[1].queue.size",
            "8 bytes",
        ),
        (
            peer("HF-B", "b:1") + "queue = { size = \"1GiB\", file = \"queue\" }\n",
            "peer[1].queue.file",
            "a file from the root is",
        ),
        (
            peer("HF-B", "b:1")
                + "queue = { size = \"1GiB\", file = \"/q\" }\n"
                + &peer("HF-C", "b:1")
                + "queue = { size = \"1GiB\", file = \"/q\" }\n",
            "peer[2].queue.file",
            "the queue of another peer already",
        ),
        (
            peer("HF-B", "b:1") + "queue = { file = \"/q\" }\n",
            "peer[1]",
            "missing field `size`",
        ),
        (
            peer("HF-B", "b:1") + "queue = { size = \"1GiB\", place = \"/q\" }\n",
            "peer[1]",
            "unknown field `place`",
        ),
        (peer("HF/B", "b.example.org:3261"), "peer[1].id", "no system id"),
        (peer("HF-A", "[::1]:3261"), "peer[1].id", "this system itself"),
        (
            peer("HF-B", "b:1") + &peer("HF-B", "c:1"),
            "peer[2].id",
            "given twice",
        ),
    ] {
        let found = faults(&format!("{GOOD}{LINK}{peers}"));
        // The certificates are not there either.
        let found: Vec<_> = found.iter().filter(|(key, _)| key != "link.cert").collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == key && found[0].1.contains(says), "{found:?}");
    }
}
