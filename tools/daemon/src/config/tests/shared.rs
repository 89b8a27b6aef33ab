//! Units that two systems show, and the identifiers of ports that must differ there.

use target_core::scsi_model::control::SystemId;

use super::*;
use crate::config::raw::RawShared;

/// [`GOOD`] with volume 1 shared, and a peer; the certificates of the link are not there.
fn shared(keys: &str) -> String {
    let line = format!("direct = true\nshared = {{ {keys} }}");
    let peer = "[[peer]]\nid = \"HF-B\"\naddress = \"127.0.0.1:3361\"\n";
    format!("{}{LINK}{peer}", with("direct = true", &line))
}

fn wrong(text: &str, key: &str, says: &str) {
    let mut found = faults(text);
    found.retain(|(key, _)| key != "link.cert");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == key && found[0].1.contains(says), "{found:?}");
}

#[test]
fn a_shared_volume_has_a_partner_an_naa_and_port_groups_that_differ() {
    let good = shared("with = \"HF-B:1\"");
    assert_eq!(faults(&good).len(), 1, "{:?}", faults(&good));
    wrong(
        &shared("with = \"HF-C:1\""),
        "volume prod.shared.with",
        "no [[peer]]",
    );
    for with in ["HF-B", "HF-B:prod", ":1", "HF-B:-1"] {
        let text = shared(&format!("with = \"{with}\""));
        wrong(&text, "volume[1].shared.with", "SYSTEM:NUMBER is");
    }
    for groups in ["[0, 1]", "[1, 65536]", "[7, 7]", "[-1, 2]"] {
        let text = shared(&format!("with = \"HF-B:1\", target_port_groups = {groups}"));
        wrong(&text, "volume[1].shared.target_port_groups", "two different");
    }
    let nameless = good.replace("naa = \"60248460000000010000000000000002\"\n", "");
    wrong(&nameless, "volume[1].shared", "together with naa");
    let mirror = good.replacen("size = \"10GiB\"", "size = \"10GiB\"\nclass = \"mirror\"", 1);
    wrong(&mirror, "volume[1].shared", "class \"standard\"");
    let removable = good.replacen("size = \"10GiB\"", "size = \"10GiB\"\nremovable = true", 1);
    wrong(&removable, "volume[1].shared", "removable");
    let second = "physical_block_size = 4096\nnaa = \"60248460000000010000000000000003\"\nshared = { with = \"HF-B:1\" }";
    let twice = good.replacen("physical_block_size = 4096", second, 1);
    let twice = twice.replacen("removable = true\nthin = false", "thin = false", 1);
    let twice = twice.replacen("class = \"mirror\"\n", "", 1);
    wrong(
        &twice,
        "volume[2].shared.with",
        "volume prod is shared with that one already",
    );
}

#[test]
fn initiators_are_sent_to_the_system_that_shows_the_shared_units() {
    let redirect = |text: &str, to: &str| {
        let target = format!("[[target]]\nredirect = \"{to}\"\n");
        text.replacen("[[target]]\n", &target, 1)
    };
    let good = shared("with = \"HF-B:1\"");
    let found = faults(&redirect(&good, "192.0.2.7:3260"));
    assert!(found.len() == 1 && found[0].0 == "link.cert", "{found:?}");
    wrong(
        &redirect(&good, "elsewhere"),
        "target[1].redirect",
        "\"elsewhere\"",
    );
    wrong(
        &redirect(GOOD, "192.0.2.7:3260"),
        "target iqn.2026-11.org.example:t1.redirect",
        "with a `shared` volume only",
    );
}

#[test]
fn port_groups_that_are_not_configured_follow_from_the_names_of_the_systems() {
    let read = |keys: &str| {
        let shared: RawShared = toml::from_str(keys).unwrap();
        let text = with("direct = true", "memory = false");
        let mut raw: toml::Table = toml::from_str(&text).unwrap();
        let volume = raw["volume"].as_array_mut().unwrap().remove(0);
        let volume = RawVolume {
            shared: Some(shared),
            ..volume.try_into().unwrap()
        };
        let mut problems = Problems::new("a.toml");
        let volume = validate_volume("volume[1]", &volume, &mut problems);
        assert!(problems.is_empty());
        volume.shared.unwrap()
    };
    let system = |id: &str| SystemId::new(id).unwrap();
    let by_name = read("with = \"HF-B:1\"");
    assert_eq!(by_name.target_port_group(&system("HF-A")), 1);
    assert_eq!(by_name.target_port_group(&system("HF-C")), 2);
    let configured = read("with = \"HF-B:1\"\ntarget_port_groups = [9, 5]");
    assert_eq!(configured.target_port_group(&system("HF-A")), 9);
}

#[test]
fn relative_identifiers_of_ports_are_in_range_and_nobody_elses() {
    let offset = |offset: &str| {
        with(
            "iqn = \"iqn.2026-11.org.example:t1\"",
            &format!("iqn = \"iqn.2026-11.org.example:t1\"\nrelative_port_offset = {offset}"),
        )
    };
    let config = parse(&offset("100")).unwrap();
    let target = config.targets.values().next().unwrap();
    assert_eq!(target.relative_port_offset, Some(100));
    for wrong in ["-1", "65535", "70000"] {
        one_fault(&offset(wrong), "target[1].relative_port_offset", "0 to 65534 is");
    }
    let group = "[\"127.0.0.1:3260\", \"[::1]:3260\"]";
    let grouped = "[{ address = \"127.0.0.1:3260\", group = 40000 }]";
    let key = "target iqn.2026-11.org.example:t1.relative_port_offset";
    one_fault(
        &offset("30000").replacen(group, grouped, 1),
        key,
        "25535 or less is",
    );
    let second = "[[target]]\niqn = \"iqn.2026-11.org.example:t2\"\nrelative_port_offset = 100\n";
    let both = faults(&format!("{}{second}", offset("100")));
    assert_eq!(both.len(), 2, "each of the two names the other: {both:?}");
    assert!(both.iter().all(|(_, text)| text.contains("identifier 101")));
}
