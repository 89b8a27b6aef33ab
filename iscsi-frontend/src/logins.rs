//! Connections that have not logged in, by address.
//!
//! The places for connections are limited. One address must not take them all with connections that never log in, and keep
//! everybody else waiting until they time out.

use std::{net::IpAddr, sync::Arc};

use dashmap::{DashMap, mapref::entry::Entry};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    of_address: DashMap<IpAddr, usize>,
}

/// A login under way; it no longer counts when this is dropped.
#[derive(Debug)]
pub(crate) struct LoginPlace {
    logins: Arc<Logins>,
    address: IpAddr,
}

impl Logins {
    /// Counts one more, unless `most` are under way from this address.
    pub(crate) fn begin(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<LoginPlace> {
        let mut count = self.of_address.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(LoginPlace {
            logins: self.clone(),
            address,
        })
    }
}

impl Drop for LoginPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.logins.of_address.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_logins_at_once_and_others_have_theirs() {
        let logins = Arc::new(Logins::default());
        let [a, b] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let first = logins.begin(a, 2).unwrap();
        let _second = logins.begin(a, 2).unwrap();
        assert!(logins.begin(a, 2).is_none());
        let other = logins.begin(b, 2).unwrap();
        drop((first, other));
        assert!(logins.begin(a, 2).is_some());
        assert_eq!(
            logins.of_address.len(),
            1,
            "nothing is kept of an address without logins"
        );
    }
}
