//! The system that is talked to, and what is known of it: its volumes' names and its id.

use std::path::PathBuf;

use admin_api::{QueryDocument, QueryPair, WaitAnswer};
use scsi_model::control::{
    PairSelector, Reply, Request, SystemId, VolumeDescriptor, VolumeNumber, VolumePair,
};

use crate::{
    args::{FarVolume, PairName, Reach, VolumeName, Way},
    failure::Failure,
    transport::{AdminSocket, IscsiSession, ScsiDevice, Transport, TransportError},
};

const DEFAULT_SOCKET: &str = "./holdfast-data/admin.sock";

/// A system, reached.
pub(crate) struct System {
    transport: Box<dyn Transport>,
    volumes: Option<Vec<VolumeDescriptor>>,
    id: Option<SystemId>,
}

impl System {
    /// Reaches it the way the arguments say.
    pub(crate) fn reach(way: &Way) -> Result<Self, Failure> {
        let transport: Box<dyn Transport> = match way {
            Way { iscsi: Some(url), .. } => Box::new(IscsiSession::login(url)?),
            Way {
                device: Some(path), ..
            } => Box::new(ScsiDevice::open(path)?),
            Way { admin, .. } => {
                let named = || std::env::var_os("HOLDFAST_ADMIN").filter(|path| !path.is_empty());
                let path = admin.clone().or_else(|| named().map(PathBuf::from));
                let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
                Box::new(AdminSocket::new(&path)?)
            }
        };
        Ok(Self::over(transport))
    }

    fn over(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            volumes: None,
            id: None,
        }
    }

    /// Has a request executed.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        Ok(self.transport.execute(request)??)
    }

    /// Has a request executed whose reply is of one kind.
    pub(crate) fn ask_for<T>(
        &mut self,
        request: &Request,
        kind: impl FnOnce(Reply) -> Result<T, Reply>,
    ) -> Result<T, Failure> {
        let reply = self.ask(request)?;
        kind(reply).map_err(|other| {
            TransportError::new("the system answered something else", format!("{other:?}")).into()
        })
    }

    /// See [`Transport::wait`].
    pub(crate) fn wait(
        &mut self,
        pairs: PairSelector,
        state: Option<u8>,
        timeout: std::time::Duration,
    ) -> Result<WaitAnswer, Failure> {
        Ok(self.transport.wait(pairs, state, timeout)??)
    }

    /// The admin socket; in band there is none, and `command` needs one.
    pub(crate) fn admin(&mut self, command: &str) -> Result<&mut AdminSocket, Failure> {
        let text = || format!("`{command}` works over the admin socket only: leave out --iscsi and --device");
        self.transport.admin().ok_or_else(|| Failure::Usage(text()))
    }

    /// See [`Transport::admin`].
    pub(crate) fn admin_if_any(&mut self) -> Option<&mut AdminSocket> {
        self.transport.admin()
    }

    /// See [`Transport::kernel`].
    pub(crate) fn kernel(&self) -> bool {
        self.transport.kernel()
    }

    /// Its volumes, asked for once.
    pub(crate) fn volumes(&mut self) -> Result<&[VolumeDescriptor], Failure> {
        if self.volumes.is_none() {
            let volumes = self.ask_for(&Request::Setup, |reply| match reply {
                Reply::Volumes(volumes) => Ok(volumes),
                other => Err(other),
            })?;
            self.volumes = Some(volumes);
        }
        Ok(self.volumes.as_deref().unwrap_or_default())
    }

    /// Its id, asked for once.
    pub(crate) fn id(&mut self) -> Result<SystemId, Failure> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = self.ask_for(&Request::ReportCapabilities, |reply| match reply {
            Reply::Capabilities(capabilities) => Ok(capabilities.system),
            other => Err(other),
        })?;
        Ok(self.id.insert(id).clone())
    }

    /// The pairs, as `query --json` shows them.
    pub(crate) fn query(&mut self, pairs: PairSelector) -> Result<QueryDocument, Failure> {
        let pairs = self.ask_for(&Request::Query(pairs), |reply| match reply {
            Reply::Pairs(pairs) => Ok(pairs),
            other => Err(other),
        })?;
        let id = self.id()?;
        Ok(QueryDocument::new(&id, &pairs, self.volumes()?))
    }

    /// A volume's number. Numbers go as they are: whether there is such a volume is for the system to say.
    pub(crate) fn number(&mut self, name: &VolumeName) -> Result<VolumeNumber, Failure> {
        let name = match name {
            VolumeName::Number(number) => return Ok(VolumeNumber(*number)),
            VolumeName::Name(name) => name,
        };
        let volumes = self.volumes()?;
        volumes
            .iter()
            .find(|volume| volume.name == *name)
            .map(|volume| volume.number)
            .ok_or_else(|| {
                let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
                Failure::Failed(format!(
                    "there is no volume {name:?}; the volumes are {}",
                    names.join(", ")
                ))
            })
    }

    /// A volume for people: `1 (prod)`.
    pub(crate) fn called(&mut self, number: VolumeNumber) -> String {
        let name = self.volumes().ok().and_then(|volumes| {
            volumes
                .iter()
                .find(|volume| volume.number == number)
                .map(|volume| volume.name.clone())
        });
        match name {
            Some(name) => format!("{} ({name})", number.0),
            None => number.0.to_string(),
        }
    }

    /// An existing pair's numbers.
    pub(crate) fn pair(&mut self, pair: &Reach) -> Result<VolumePair, Failure> {
        self.members(&[PairName {
            primary: pair.primary.clone(),
            mirror: pair.mirror.clone(),
        }])
        .map(|mut members| members.remove(0))
    }

    /// The numbers of several pairs.
    pub(crate) fn members(&mut self, pairs: &[PairName]) -> Result<Vec<VolumePair>, Failure> {
        pairs.iter().map(|pair| self.member(pair)).collect()
    }

    fn member(&mut self, pair: &PairName) -> Result<VolumePair, Failure> {
        let (primary, mirror) = self.numbers(&pair.primary, &pair.mirror)?;
        Ok(VolumePair {
            primary,
            mirror: Some(mirror),
        })
    }

    /// Likewise, of one pair as it is named.
    pub(crate) fn numbers(
        &mut self,
        primary: &FarVolume,
        mirror: &FarVolume,
    ) -> Result<(VolumeNumber, VolumeNumber), Failure> {
        match (primary, mirror) {
            (FarVolume::Here(primary), mirror) => {
                let primary = self.number(primary)?;
                Ok((primary, self.mirror(primary, mirror)?))
            }
            (FarVolume::There(system, number), FarVolume::Here(mirror)) => {
                let mirror = self.number(mirror)?;
                let followed = self.followed(system, *number, Some(mirror))?;
                followed.ok_or_else(|| {
                    let mirror = self.called(mirror);
                    Failure::Failed(format!(
                        "volume {mirror} is not a mirror of {system}:{number}: a new pair is made where its primary is"
                    ))
                })
            }
            (FarVolume::There(..), FarVolume::There(..)) => Err(Failure::Usage(
                "one of the two volumes of a pair is this system's".to_owned(),
            )),
        }
    }

    /// The pair of a primary of another system that this one follows, with this mirror or with any.
    fn followed(
        &mut self,
        system: &SystemId,
        number: u32,
        mirror: Option<VolumeNumber>,
    ) -> Result<Option<(VolumeNumber, VolumeNumber)>, Failure> {
        let pairs = self.query(PairSelector::All)?.pairs;
        let called = |pair: &&QueryPair| {
            pair.primary.number == number && mirror.is_none_or(|mirror| pair.mirror.number == mirror.0)
        };
        let known = |pair: &&QueryPair| {
            called(pair) && pair.role == "mirror" && pair.peer.as_deref() == Some(system.as_str())
        };
        Ok(pairs.iter().find(known).map(|pair| {
            // This system may have a pair of these numbers too.
            let alone = pairs.iter().filter(called).count() == 1;
            let handle = pair.handle.filter(|_| !alone);
            (
                VolumeNumber(handle.unwrap_or(number)),
                VolumeNumber(pair.mirror.number),
            )
        }))
    }

    /// A mirror's number. The wire names a remote pair by numbers alone, so that the pair must be there already.
    pub(crate) fn mirror(
        &mut self,
        primary: VolumeNumber,
        mirror: &FarVolume,
    ) -> Result<VolumeNumber, Failure> {
        let (system, number) = match mirror {
            FarVolume::Here(name) => return self.number(name),
            FarVolume::There(system, number) => (system, *number),
        };
        let pairs = self.query(PairSelector::All)?.pairs;
        let called = |pair: &&QueryPair| pair.mirror.number == number && pair.primary.number == primary.0;
        let known = |pair: &&QueryPair| {
            called(pair) && pair.role == "primary" && pair.peer.as_deref() == Some(system.as_str())
        };
        if let Some(pair) = pairs.iter().find(known) {
            // Several systems may have a volume of that number.
            let alone = pairs.iter().filter(called).count() == 1;
            let handle = pair.handle.filter(|_| !alone);
            return Ok(VolumeNumber(handle.unwrap_or(number)));
        }
        let primary = self.called(primary);
        Err(Failure::Failed(format!(
            "{system}:{number} is not a mirror of volume {primary}"
        )))
    }

    /// What `[P [M]]` selects.
    pub(crate) fn selector(
        &mut self,
        primary: Option<&FarVolume>,
        mirror: Option<&FarVolume>,
    ) -> Result<PairSelector, Failure> {
        match (primary, mirror) {
            (None, _) => Ok(PairSelector::All),
            (Some(FarVolume::Here(primary)), None) => Ok(PairSelector::OfPrimary(self.number(primary)?)),
            (Some(FarVolume::There(system, number)), None) => {
                let (primary, mirror) = self.followed(system, *number, None)?.ok_or_else(|| {
                    Failure::Failed(format!(
                        "no volume of this system is a mirror of {system}:{number}"
                    ))
                })?;
                Ok(PairSelector::One(primary, mirror))
            }
            (Some(primary), Some(mirror)) => {
                let (primary, mirror) = self.numbers(primary, mirror)?;
                Ok(PairSelector::One(primary, mirror))
            }
        }
    }

    /// A primary that must be this system's, for what is given where the pair is led.
    pub(crate) fn primary_here(&mut self, primary: &FarVolume) -> Result<VolumeNumber, Failure> {
        match primary {
            FarVolume::Here(name) => self.number(name),
            FarVolume::There(system, number) => Err(Failure::Failed(format!(
                "{system}:{number} is a volume of {system}: give the command there"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi_model::control::{Capabilities, PairDescriptor};
    use serde_json::json;

    use super::*;
    use crate::transport::Answer;

    /// HF-B in a chain: its volume 1 follows HF-A:1 and leads to HF-C:1, and follows HF-D:4 as volume 2.
    struct Middle;

    fn pair(primary: u32, mirror: u32, peer: &str, role: u8, handle: u32) -> PairDescriptor {
        let pair = json!({
            "primary": primary, "mirror": mirror, "peer": peer, "role": role, "state": 2, "held": false, "strictly_held": false,
            "mirror_ready": false, "history": true, "full": false, "link_up": true, "mode": null, "mirror_inconsistent": false,
            "track_size": 65536, "tracks": 256, "mirror_invalid": 0, "primary_invalid": 0, "remaining": 0, "split_at_ms": 0,
            "rate": 0, "eta_seconds": null, "reason": "none", "on_link_loss": null, "handle": handle,
        });
        serde_json::from_value(pair).expect("a pair")
    }

    impl Transport for Middle {
        fn execute(&mut self, request: &Request) -> Answer<Reply> {
            Ok(Ok(match request {
                Request::Query(_) => Reply::Pairs(vec![
                    pair(1, 1, "HF-A", 2, 1001),
                    pair(1, 1, "HF-C", 1, 1002),
                    pair(4, 2, "HF-D", 2, 1003),
                ]),
                Request::Setup => Reply::Volumes(Vec::new()),
                _ => Reply::Capabilities(Capabilities {
                    system: SystemId::new("HF-B").expect("an id"),
                    pairs_per_volume: 64,
                    list_descriptors: 64,
                    track_size: 65536,
                    version: String::new(),
                }),
            }))
        }
    }

    #[test]
    fn a_pair_is_named_by_its_far_volume_on_either_side() {
        let mut system = System::over(Box::new(Middle));
        let mut numbers = |primary: &str, mirror: &str| {
            let named = (primary.parse().expect("a name"), mirror.parse().expect("a name"));
            let numbers = system.numbers(&named.0, &named.1).ok();
            numbers.map(|(primary, mirror)| (primary.0, mirror.0))
        };
        assert_eq!(
            numbers("HF-A:1", "1"),
            Some((1001, 1)),
            "1 and 1 would be either pair"
        );
        assert_eq!(numbers("1", "HF-C:1"), Some((1, 1002)));
        assert_eq!(numbers("HF-D:4", "2"), Some((4, 2)));
        assert_eq!(numbers("HF-C:1", "1"), None, "HF-B leads that pair");
        assert_eq!(numbers("HF-A:1", "2"), None);
        assert_eq!(numbers("HF-A:1", "HF-C:1"), None);
        let primary: FarVolume = "HF-D:4".parse().expect("a name");
        assert_eq!(
            system.selector(Some(&primary), None).ok(),
            Some(PairSelector::One(VolumeNumber(4), VolumeNumber(2)))
        );
    }
}
