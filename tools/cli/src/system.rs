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
        let primary = self.number(&pair.primary)?;
        let mirror = self.mirror(primary, &pair.mirror)?;
        Ok(VolumePair {
            primary,
            mirror: Some(mirror),
        })
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
        primary: Option<&VolumeName>,
        mirror: Option<&FarVolume>,
    ) -> Result<PairSelector, Failure> {
        let Some(primary) = primary else {
            return Ok(PairSelector::All);
        };
        let primary = self.number(primary)?;
        let Some(mirror) = mirror else {
            return Ok(PairSelector::OfPrimary(primary));
        };
        Ok(PairSelector::One(primary, self.mirror(primary, mirror)?))
    }
}
