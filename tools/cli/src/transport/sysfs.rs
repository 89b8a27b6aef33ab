//! Which block device of this host is a volume: by the NAA identifier in the device identification page (VPD 83h,
//! SPC-4 7.8.6) that the kernel keeps in sysfs.

use std::{fs, path::Path};

/// The block device whose NAA identifier this is, given as hexadecimal digits.
pub(crate) fn host_device(naa: &str) -> Option<String> {
    find(Path::new("/sys/block"), naa)
}

fn find(blocks: &Path, naa: &str) -> Option<String> {
    let mut found: Vec<String> = fs::read_dir(blocks)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            let page = fs::read(entry.path().join("device/vpd_pg83")).unwrap_or_default();
            identifies(&page, naa)
        })
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .collect();
    found.sort();
    (!found.is_empty()).then(|| found.join(","))
}

/// Does the page hold this NAA identifier for the logical unit?
fn identifies(page: &[u8], naa: &str) -> bool {
    let mut rest = page.get(4..).unwrap_or_default();
    while let [_, kind, _, length, tail @ ..] = rest {
        let Some((identifier, next)) = tail.split_at_checked(usize::from(*length)) else {
            return false;
        };
        // Designator type 3 (NAA), association 0 (logical unit).
        if kind & 0x3f == 3 {
            let text: Vec<String> = identifier.iter().map(|byte| format!("{byte:02x}")).collect();
            if text.concat() == naa {
                return true;
            }
        }
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAA: [u8; 16] = [0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn page() -> Vec<u8> {
        let mut page = vec![0, 0x83, 0, 0];
        page.extend([2, 1, 0, 4, b'H', b'F', b' ', b' ']);
        page.extend([1, 3, 0, 16]);
        page.extend(NAA);
        page
    }

    #[test]
    fn the_device_is_found_by_its_identifier() {
        let directory = tempfile::tempdir().unwrap();
        for (name, page) in [
            ("sda", vec![]),
            ("sdb", page()),
            ("sdc", vec![0, 0x83, 0, 8, 1, 3, 0, 200]),
        ] {
            let device = directory.path().join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("vpd_pg83"), page).unwrap();
        }
        let naa = format!("{:032x}", u128::from_be_bytes(NAA));
        assert_eq!(find(directory.path(), &naa).as_deref(), Some("/dev/sdb"));
        assert_eq!(find(directory.path(), "60ff"), None);
        assert_eq!(find(Path::new("/nonexistent"), &naa), None);
    }
}
