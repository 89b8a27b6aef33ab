//! Generations with hosts at work: what an image holds, what a rule keeps, and what it never takes away.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    Daemon, DaemonConfig, VolumeSpec, commands,
    initiator::{GOOD, Initiator, Manner},
    program,
    stamps::SECTOR,
    tool,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

/// Steps of qemu-io on a LUN; a pattern that differs fails.
fn io(daemon: &Daemon, lun: u16, steps: &[&str]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    for step in steps {
        command.args(["-c", step]);
    }
    let run = tool::run(command.arg(daemon.url(lun)), PATIENCE);
    assert!(
        run.status.success() && !run.said().contains("Pattern verification failed"),
        "{steps:?}: {}",
        run.said()
    );
}

fn generations(daemon: &Daemon) -> Vec<Value> {
    let text = daemon.holdfast_ok(&["--json", "generation", "list"]);
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    document["generations"].as_array().expect("a list").clone()
}

fn numbers(daemon: &Daemon) -> Vec<u64> {
    generations(daemon)
        .iter()
        .filter_map(|generation| generation["number"].as_u64())
        .collect()
}

fn events(daemon: &Daemon) -> String {
    daemon.holdfast_ok(&["events"])
}

fn until(what: &str, daemon: &Daemon, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}\n{:?}\n{}",
            generations(daemon),
            events(daemon)
        );
        thread::sleep(Duration::from_millis(100));
    }
}

fn settled(daemon: &Daemon) {
    daemon.holdfast_ok(&["verify", "--wait", "--timeout", "60"]);
}

/// Number of the first mirror of a generation.
fn mirror(generation: &Value) -> String {
    generation["members"][0]["mirror"]["number"].to_string()
}

/// Every mirror of every generation.
fn mirrors(daemon: &Daemon) -> BTreeSet<u64> {
    generations(daemon)
        .iter()
        .flat_map(|generation| generation["members"].as_array().expect("a list").clone())
        .map(|member| member["mirror"]["number"].as_u64().expect("a number"))
        .collect()
}

/// Volumes made on demand.
fn made(daemon: &Daemon) -> BTreeSet<u64> {
    let text = daemon.holdfast_ok(&["--json", "volume", "list"]);
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    document["volumes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|volume| {
            volume["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("gen-"))
        })
        .map(|volume| volume["number"].as_u64().expect("a number"))
        .collect()
}

/// Numbers in the names of the image files.
fn files(daemon: &Daemon) -> BTreeSet<u64> {
    let entries = fs::read_dir(daemon.path("generations")).expect("it was made");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"));
    names
        .map(|name| {
            let number = name
                .strip_prefix("gen-")
                .and_then(|name| name.strip_suffix(".img"));
            number.and_then(|number| number.parse().ok()).expect("gen-N.img")
        })
        .collect()
}

/// No volume and no file but those of generations, at the latest once what was begun is copied.
fn no_orphans(daemon: &Daemon) {
    until("nothing is left over", daemon, || {
        let mirrors = mirrors(daemon);
        made(daemon) == mirrors && files(daemon) == mirrors
    });
}

/// Initiators of another name than qemu's.
fn another(daemon: &Daemon) -> Initiator {
    let manner = Manner {
        name: "iqn.2026-11.io.holdfast:another".to_owned(),
        digests: false,
        immediate_data: true,
    };
    Initiator::login(daemon.port(), daemon.iqn(), &manner)
}

/// Sectors of one byte.
fn holds(host: &mut Initiator, lun: u16, sector: u64, sectors: u32, byte: u8) {
    let read = host
        .run(lun, &commands::read(sector, sectors))
        .expect("connected");
    assert_eq!(read.status, GOOD, "LUN {lun}");
    assert_eq!(read.data.len(), sectors as usize * SECTOR);
    assert!(
        read.data.iter().all(|found| *found == byte),
        "LUN {lun} sector {sector}: {:#x} is not {byte:#x}",
        read.data[0]
    );
}

/// Two standards, and mirrors made on demand; copies take seconds.
fn on_demand() -> Daemon {
    on_demand_at("[replication]\ncopy_rate = \"4MiB\"\n")
}

fn on_demand_at(rate: &str) -> Daemon {
    Daemon::start(&DaemonConfig {
        volumes: vec![
            VolumeSpec::standard("data", "32MiB"),
            VolumeSpec::standard("log", "16MiB"),
        ],
        initiators: String::new(),
        // Relative to where the daemon runs: the test's directory.
        extra: format!("[generations]\ndirectory = \"generations\"\n{rate}"),
    })
}

#[test]
fn images_are_of_one_instant_and_outlive_a_crash() {
    let mut daemon = on_demand();
    io(&daemon, 0, &["write -P 0xa1 0 8M"]);
    io(&daemon, 1, &["write -P 0xb1 0 4M"]);
    daemon.holdfast_ok(&["generation", "create", "data", "log", "--name", "before"]);
    // While the images are still being copied.
    io(&daemon, 0, &["write -P 0xa2 1M 4M"]);
    io(&daemon, 1, &["write -P 0xb2 1M 1M"]);
    daemon.holdfast_ok(&["generation", "create", "data"]);
    assert_eq!(generations(&daemon)[0]["members"][0]["state"], "splitting");
    daemon.kill();
    daemon.start_again();
    settled(&daemon);
    let all = generations(&daemon);
    assert_eq!(numbers(&daemon), [1, 2]);
    // A look at the image itself, which nobody had a LUN of so far.
    let image = mirror(&all[0]);
    daemon.holdfast_ok(&["map", &image, "--lun", "9"]);
    io(&daemon, 9, &["read -P 0xa1 0 8M", "read -P 0 8M 24M"]);
    holds(&mut another(&daemon), 9, 2048, 2048, 0xa1);
    // Whoever mapped it wants it: nobody needs to be logged in.
    refused(&daemon, &["generation", "delete", "before"], "is LUN 9");
    daemon.holdfast_ok(&["unmap", &image]);
    let listed = daemon.holdfast_ok(&["generation", "list"]);
    assert!(
        listed.contains("before") && listed.contains("1 (data)"),
        "{listed}"
    );

    refused(
        &daemon,
        &["generation", "restore", "log", "2"],
        "is not of volume 2 (log)",
    );
    refused(
        &daemon,
        &["generation", "create", "data", "--name", "before"],
        "already",
    );
    refused(
        &daemon,
        &["generation", "create", "data", "--name", "7"],
        "digits",
    );
    daemon.holdfast_ok(&[
        "generation",
        "restore",
        "data",
        "before",
        "--all",
        "--protected",
        "--wait",
    ]);
    io(&daemon, 0, &["read -P 0xa1 0 8M"]);
    io(&daemon, 1, &["read -P 0xb1 0 4M"]);
    assert_eq!(numbers(&daemon), [1, 2], "a protected restore uses nothing up");

    daemon.holdfast_ok(&["generation", "delete", "before"]);
    daemon.holdfast_ok(&["generation", "delete", "2"]);
    assert!(numbers(&daemon).is_empty());
    assert!(
        made(&daemon).is_empty() && files(&daemon).is_empty(),
        "volumes made on demand go with them"
    );
}

/// Exit code 1 and this reason.
fn refused(daemon: &Daemon, arguments: &[&str], why: &str) {
    let run = daemon.holdfast(arguments);
    assert_eq!(run.code(), 1, "{arguments:?}: {}", run.said());
    assert!(run.stderr.contains(why), "{arguments:?}: {}", run.said());
}

/// `holdfast generation` with these arguments, not waited for.
fn begin(daemon: &Daemon, arguments: &[&str]) -> Child {
    Command::new(program("holdfast"))
        .arg("--admin")
        .arg(daemon.path("admin.sock"))
        .arg("generation")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("holdfast starts")
}

/// Pauses before a kill: from none to almost twice what takes that long.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> + Clone {
    const KILLS: u32 = 12;
    (0..KILLS).map(move |number| whole * number * 2 / KILLS)
}

/// The daemon's own notes: what is in hand, and the generations.
fn book(daemon: &Daemon) -> Value {
    let text = fs::read_to_string(daemon.path("state/generations.json")).expect("it is kept");
    let (_, document) = text.split_once('\n').expect("a header");
    serde_json::from_str(document).expect("JSON")
}

fn in_hand(daemon: &Daemon) -> bool {
    book(daemon)["in_hand"]
        .as_object()
        .is_some_and(|pairs| !pairs.is_empty())
}

/// Kills the daemon while `holdfast generation` with these arguments is under way: `pause` after something is in hand, or
/// after the command has ended. Was it answered? And was something in hand?
fn killed_in(daemon: &mut Daemon, arguments: &[&str], pause: Duration) -> (bool, bool) {
    let mut command = begin(daemon, arguments);
    let begun = Instant::now();
    while !in_hand(daemon) && command.try_wait().expect("our child").is_none() {
        assert!(begun.elapsed() < PATIENCE, "neither begun nor ended");
    }
    thread::sleep(pause);
    daemon.kill();
    let answered = command.wait().expect("our child").success();
    (answered, in_hand(daemon))
}

#[test]
fn a_crash_while_one_is_made_leaves_no_half_image_and_no_volume() {
    let mut daemon = on_demand();
    io(&daemon, 0, &["write -P 0x77 0 256k"]);
    let create = ["create", "data", "log"];
    let begun = Instant::now();
    assert!(begin(&daemon, &create).wait().expect("our child").success());
    let whole = begun.elapsed();
    let (mut outcomes, mut halves) = ([0, 0], 0);
    for pause in moments(whole) {
        let before = numbers(&daemon);
        let (answered, half) = killed_in(&mut daemon, &create, pause);
        halves += u32::from(half);
        daemon.start_again();
        let after = numbers(&daemon);
        assert!(after.starts_with(&before), "{before:?} {after:?}");
        let made = after.len() > before.len();
        assert!(made || !answered, "what was answered is there");
        outcomes[usize::from(made)] += 1;
        for generation in generations(&daemon) {
            let members = generation["members"].as_array().expect("a list");
            assert_eq!(members.len(), 2, "{generation}");
            for member in members {
                let state = member["state"].as_str().expect("a name");
                assert!(["splitting", "split"].contains(&state), "{member}");
            }
        }
        no_orphans(&daemon);
    }
    println!("not made and made: {outcomes:?}, with something in hand: {halves}");
    assert!(halves > 0, "no kill came in between");
    settled(&daemon);
    // All of those that there are hold what they should.
    for generation in generations(&daemon) {
        let file = format!("generations/gen-{}.img", mirror(&generation));
        let image = fs::read(daemon.path(file)).expect("it is there");
        let (data, rest) = image.split_at(256 << 10);
        assert!(
            data.iter().all(|byte| *byte == 0x77) && rest.iter().all(|byte| *byte == 0),
            "{generation}"
        );
    }

    // And while they are dropped.
    let mut pauses = moments(whole).cycle();
    while let Some(number) = numbers(&daemon).first() {
        let pause = pauses.next().expect("endless") / 2;
        let delete = ["delete", &number.to_string()];
        let (answered, half) = killed_in(&mut daemon, &delete, pause);
        halves += u32::from(half);
        daemon.start_again();
        assert!(!answered || !numbers(&daemon).contains(number));
        no_orphans(&daemon);
        if numbers(&daemon).contains(number) {
            daemon.holdfast_ok(&["generation", "delete", &number.to_string()]);
        }
    }
    no_orphans(&daemon);
    println!("with something in hand: {halves}, of all");
}

/// One standard and up to three mirrors in the pool, all mapped.
fn pool(mirrors: usize) -> Daemon {
    const NAMES: [&str; 3] = ["m1", "m2", "m3"];
    let mut volumes = vec![VolumeSpec::standard("data", "16MiB")];
    volumes.extend(
        NAMES[..mirrors]
            .iter()
            .map(|name| VolumeSpec::mirror(name, "16MiB")),
    );
    let numbers: Vec<String> = (2..2 + mirrors).map(|number| number.to_string()).collect();
    Daemon::start(&DaemonConfig {
        volumes,
        initiators: String::new(),
        extra: format!("[generations]\npool = [{}]\n", numbers.join(", ")),
    })
}

#[test]
fn a_rule_keeps_the_newest_and_recycles_the_rest() {
    let daemon = pool(3);
    io(&daemon, 0, &["write -P 0x51 0 4M"]);
    daemon.holdfast_ok(&[
        "generation",
        "rule",
        "set",
        "data",
        "--every",
        "1s",
        "--keep",
        "2",
    ]);
    until("five generations", &daemon, || {
        numbers(&daemon).last() >= Some(&5)
    });
    daemon.holdfast_ok(&[
        "generation",
        "rule",
        "set",
        "data",
        "--every",
        "1h",
        "--keep",
        "2",
    ]);
    let last = || numbers(&daemon).last().copied();
    let before = last();
    until("the one due at once", &daemon, || last() > before);
    until("the newest two", &daemon, || {
        last().is_some_and(|last| numbers(&daemon) == [last - 1, last])
    });
    let kept = numbers(&daemon);
    let said = events(&daemon);
    for number in 1..kept[0] {
        assert!(
            said.contains(&format!("generation {number} was dropped, by its rule")),
            "{said}"
        );
    }
    // A mirror that was used again has the content.
    let image: u16 = mirror(&generations(&daemon)[1]).parse().expect("a number");
    io(&daemon, image - 1, &["read -P 0x51 0 4M"]);
}

#[test]
fn a_rule_drops_what_is_too_old_and_outlives_restarts() {
    const SET: [&str; 4] = ["generation", "rule", "set", "data"];
    let mut daemon = on_demand();
    io(&daemon, 0, &["write -P 0x61 0 256k"]);
    daemon.holdfast_ok(&[&SET[..], &["--every", "1s", "--keep", "40", "--max-age", "3s"]].concat());
    until("the first is too old", &daemon, || {
        events(&daemon).contains("generation 1 was dropped, by its rule")
    });
    let before = daemon.holdfast_ok(&["generation", "rule", "show"]);
    for kill in [false, true] {
        if kill {
            daemon.kill();
        } else {
            daemon.stop();
        }
        let last = *numbers_kept(&daemon).last().expect("some");
        daemon.start_again();
        until("it goes on", &daemon, || {
            numbers(&daemon).last() > Some(&(last + 1))
        });
    }
    let after = daemon.holdfast_ok(&["generation", "rule", "show"]);
    let rule = |text: &str| {
        text.split_whitespace()
            .take(12)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rule(&after), rule(&before), "{after}");
    refused(&daemon, &["volume", "delete", "data"], "is in a rule");

    // The newest stays, however old it is.
    daemon.holdfast_ok(&[&SET[..], &["--every", "1h", "--keep", "40", "--max-age", "1s"]].concat());
    until("all but the newest go", &daemon, || numbers(&daemon).len() == 1);
    no_orphans_but_one(&daemon);
    assert_eq!(numbers(&daemon).len(), 1);
    daemon.holdfast_ok(&["generation", "rule", "clear", "data"]);
    no_orphans(&daemon);
    let newest = numbers(&daemon)[0].to_string();
    daemon.holdfast_ok(&["generation", "delete", &newest]);
    no_orphans(&daemon);
    daemon.holdfast_ok(&["generation", "create", "data"]);
}

/// As [`no_orphans`], with the spent mirror that a rule's next image goes to.
fn no_orphans_but_one(daemon: &Daemon) {
    until("one spent mirror is left", daemon, || {
        made(daemon).len() == mirrors(daemon).len() + 1 && files(daemon) == made(daemon)
    });
}

/// What the file says while the daemon is down.
fn numbers_kept(daemon: &Daemon) -> Vec<u64> {
    let book = book(daemon);
    let generations = book["generations"].as_array().expect("a list");
    generations
        .iter()
        .filter_map(|generation| generation["number"].as_u64())
        .collect()
}

#[test]
fn what_is_in_use_is_kept_and_the_reason_is_told() {
    // As many mirrors as are kept: each new one needs the oldest.
    let daemon = pool(2);
    daemon.holdfast_ok(&[
        "generation",
        "rule",
        "set",
        "data",
        "--every",
        "1s",
        "--keep",
        "2",
    ]);
    until("both mirrors are used", &daemon, || {
        numbers(&daemon).last() >= Some(&3)
    });
    settled(&daemon);
    // Held: the oldest is not recycled, nor is a younger one in its place.
    let oldest = |daemon: &Daemon| generations(daemon).first().map(mirror).unwrap_or_default();
    let mut held = oldest(&daemon);
    until("a hold before the next one", &daemon, || {
        daemon.holdfast(&["config", "release", &held]);
        held = oldest(&daemon);
        daemon.holdfast(&["config", "hold", &held]).code() == 0 && oldest(&daemon) == held
    });
    until("a refusal", &daemon, || events(&daemon).contains("is held"));
    let stuck = numbers(&daemon);
    assert!(
        events(&daemon).contains(&format!("volume {held} is held")),
        "{}",
        events(&daemon)
    );
    refused(
        &daemon,
        &["generation", "delete", &stuck[0].to_string()],
        "is held",
    );
    let said = || events(&daemon).matches("is held").count();
    let count = said();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(numbers(&daemon), stuck);
    assert_eq!(said(), count, "the same reason is told once: {}", events(&daemon));

    // A host that is logged in and sees the mirrors: likewise.
    let host = another(&daemon);
    daemon.holdfast_ok(&["config", "release", &held]);
    until("another reason", &daemon, || {
        events(&daemon).contains("is logged in")
    });
    assert_eq!(numbers(&daemon), stuck);
    let listed = daemon.holdfast_ok(&["generation", "list"]);
    assert!(listed.contains("is logged in"), "{listed}");
    drop(host);
    until("it goes on", &daemon, || numbers(&daemon).last() > stuck.last());
}

#[test]
fn what_an_administrator_does_by_hand_is_respected() {
    let daemon = pool(2);
    daemon.holdfast_ok(&["generation", "create", "data"]);
    settled(&daemon);
    let theirs = mirror(&generations(&daemon)[0]);
    daemon.holdfast_ok(&["establish", "data", &theirs, "--wait"]);
    daemon.holdfast_ok(&["split", "data", &theirs, "--wait"]);
    assert!(numbers(&daemon).is_empty(), "another image is on it");
    assert!(events(&daemon).contains("generation 1 is none any more"));
    // The mirror is not ours any more: the other one is taken, and then there is none.
    daemon.holdfast_ok(&["generation", "create", "data"]);
    refused(
        &daemon,
        &["generation", "create", "data"],
        "there is no mirror for volume 1",
    );
    daemon.holdfast_ok(&["cancel", "data", &theirs]);
    daemon.holdfast_ok(&["generation", "create", "data"]);
    assert_eq!(numbers(&daemon), [2, 3]);

    // A plain restore uses the image up.
    settled(&daemon);
    let restored = mirror(&generations(&daemon)[0]);
    let other = mirror(&generations(&daemon)[1]);
    let answer = restore_over_the_socket(&daemon, 2, &other);
    assert!(
        answer.starts_with("HTTP/1.1 409") && answer.contains("that is no RESTORE of pairs of generation 2"),
        "the mirror is another generation's by now: {answer}"
    );
    assert_eq!(daemon.pair("1", &other)["state"], "split");
    daemon.holdfast_ok(&["generation", "restore", "data", "2", "--wait"]);
    assert_eq!(generations(&daemon)[0]["members"][0]["state"], "restored");
    refused(&daemon, &["generation", "delete", "2"], "restored");
    daemon.holdfast_ok(&["split", "data", &restored, "--wait"]);
    assert_eq!(numbers(&daemon), [3]);
    refused(
        &daemon,
        &["generation", "restore", "data", "2"],
        "there is no generation 2",
    );
}

/// What a client asks for that has looked at the list some time ago.
fn restore_over_the_socket(daemon: &Daemon, generation: u32, mirror: &str) -> String {
    let flags = ["full", "instant", "protected", "strict_hold", "remote", "force"];
    let flags = flags.map(|flag| format!("\"{flag}\":false")).join(",");
    let body = format!(
        "{{\"generation\":{generation},\"request\":{{\"out\":{{\"verb\":\"restore\",\"flags\":{{{flags}}},\
         \"members\":[{{\"primary\":1,\"mirror\":{mirror}}}],\"dry_run\":false}}}}}}"
    );
    let mut stream = UnixStream::connect(daemon.path("admin.sock")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
    write!(
        stream,
        "POST /v1/generation/restore HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// S1, S52.
#[test]
fn thirty_two_generations_of_one_standard_keep_their_contents() {
    const GENERATIONS: u16 = 32;
    const TRACK: u64 = 128; // sectors
    let daemon = on_demand_at("");
    let mut host = another(&daemon);
    let mut write = |track: u64, byte: u8| {
        let data = vec![byte; 16 * SECTOR];
        let done = host.run(0, &commands::write(track * TRACK, data, false));
        assert_eq!(done.expect("connected").status, GOOD);
    };
    // Track 0 changes before each, track N once, before generation N; track 40 never.
    write(40, 0xfe);
    for number in 1..=GENERATIONS {
        let byte = u8::try_from(number).expect("small");
        write(0, byte);
        write(u64::from(number), byte);
        daemon.holdfast_ok(&["generation", "create", "data"]);
    }
    // All of them are owed what is overwritten now.
    for track in 0..=u64::from(GENERATIONS) {
        write(track, 0xff);
    }
    settled(&daemon);
    let all = generations(&daemon);
    assert_eq!(all.len(), usize::from(GENERATIONS));
    for (generation, lun) in all.iter().zip(100..) {
        daemon.holdfast_ok(&["map", &mirror(generation), "--lun", &lun.to_string()]);
    }
    let mut reader = another(&daemon);
    for number in 1..=GENERATIONS {
        let (lun, byte) = (99 + number, u8::try_from(number).expect("small"));
        holds(&mut reader, lun, 0, 16, byte);
        holds(&mut reader, lun, 40 * TRACK, 16, 0xfe);
        for track in 1..=GENERATIONS {
            let expected = if track <= number {
                u8::try_from(track).expect("small")
            } else {
                0
            };
            holds(&mut reader, lun, u64::from(track) * TRACK, 16, expected);
        }
    }
}

/// Bytes that the daemon has read and written so far, by every system call.
fn moved(daemon: &Daemon) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{}/io", daemon.pid())).expect("it runs");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse().ok()).expect("a number")
    };
    (value("rchar:"), value("wchar:"))
}

/// docs/performance.md quotes what this prints.
#[test]
fn a_write_pays_for_each_generation_that_is_owed_the_track_once() {
    const TRACK: u64 = 64 << 10;
    const TRACKS: u64 = 16;
    for count in [0, 1, 8, 32] {
        // The copies stand still, nearly: all the generations are owed all there is.
        let daemon = on_demand_at("[replication]\ncopy_rate = \"64KiB\"\n");
        io(&daemon, 0, &["write -P 0x77 0 8M"]);
        for _ in 0..count {
            daemon.holdfast_ok(&["generation", "create", "data"]);
        }
        let mut host = another(&daemon);
        let mut pass = || {
            let (read, written) = moved(&daemon);
            let begun = Instant::now();
            for track in 0..TRACKS {
                // The last tracks: the copier begins with the first.
                let sector = (8 << 20) / SECTOR as u64 - (track + 1) * TRACK / SECTOR as u64;
                let write = commands::write(sector, vec![0x78; 4096], false);
                assert_eq!(host.run(0, &write).expect("connected").status, GOOD);
            }
            let took = begun.elapsed() / u32::try_from(TRACKS).expect("small");
            let (read_now, written_now) = moved(&daemon);
            // In hundredths, so that what is not copies shows too.
            let tracks = |bytes: u64| bytes * 100 / (TRACK * TRACKS);
            (tracks(read_now - read), tracks(written_now - written), took)
        };
        let (first, second) = (pass(), pass());
        println!(
            "{count:2} generations, % of a track read and written for a write of 4 KiB, and its time: first {first:.2?}, then {second:.2?}"
        );
        // The copier goes on meanwhile: 1 MiB, as much as all our tracks, at a time, and such a run every 16 s.
        let copier = |took: Duration| 250 + 100 * took.as_secs();
        let pushed = 100 * count;
        assert!(first.1 >= pushed, "{count}: the old data was not kept: {first:?}");
        assert!(
            first.0.max(first.1) <= pushed + copier(first.2),
            "{count}: a track was copied twice for a generation: {first:?}"
        );
        assert!(
            second.0.max(second.1) <= copier(second.2),
            "{count}: a track was copied again: {second:?}"
        );
    }
}
