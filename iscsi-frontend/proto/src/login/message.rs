//! What goes into the login machine and what comes out.

use super::facts::InitiatorPort;
use super::misbehaviour::Misbehaviour;
use crate::bhs::LoginResponse;
use crate::negotiation::{ConnectionParameters, SessionParameters, SessionType};

/// The one protocol version there is (RFC 7143 11.12.4).
pub const VERSION: u8 = 0;

/// A stage of login, as CSG and NSG name it (RFC 7143 11.12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// SecurityNegotiation.
    Security = 0,
    /// LoginOperationalNegotiation.
    Operational = 1,
    /// FullFeaturePhase.
    FullFeature = 3,
}

impl Stage {
    /// The stage of that number; 2 is reserved.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }

    /// Its number in CSG and NSG.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// A Login Request (RFC 7143 11.12) as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRequestView<'a> {
    /// T bit: the initiator is ready to move on to `nsg`.
    pub transit: bool,
    /// C bit: the text goes on in the next request.
    pub cont: bool,
    /// Current stage, 0 to 3.
    pub csg: u8,
    /// Next stage, 0 to 3; counts only with `transit`.
    pub nsg: u8,
    /// Highest version the initiator speaks.
    pub version_max: u8,
    /// Lowest version the initiator speaks.
    pub version_min: u8,
    /// Initiator session id.
    pub isid: [u8; 6],
    /// 0 for a new session, else the session to join.
    pub tsih: u16,
    /// Initiator task tag, the same in the whole login phase.
    pub itt: u32,
    /// Connection id.
    pub cid: u16,
    /// CmdSN, the first of the session when this is its leading connection.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// The data segment without padding.
    pub data: &'a [u8],
}

/// A Login Response (RFC 7143 11.13) without the fields the caller copies or counts (ISID, ITT, StatSN, ExpCmdSN,
/// MaxCmdSN).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginReply {
    /// T bit: the stage changes to `nsg`.
    pub transit: bool,
    /// C bit: the text goes on in the next response.
    pub cont: bool,
    /// Current stage.
    pub csg: u8,
    /// Next stage; 0 without `transit`.
    pub nsg: u8,
    /// Status-Class and Status-Detail (RFC 7143 11.13.5).
    pub status: (u8, u8),
    /// The session's handle in the last response, else what the request had.
    pub tsih: u16,
    /// The data segment without padding.
    pub data: Vec<u8>,
    /// Highest version we speak.
    pub version_max: u8,
    /// Version in use.
    pub version_active: u8,
}

impl LoginReply {
    /// What a Login Response says that came with this data.
    pub fn received(response: &LoginResponse, data: Vec<u8>) -> Self {
        Self {
            transit: response.transit(),
            cont: response.continues(),
            csg: response.current_stage(),
            nsg: response.next_stage(),
            status: (response.status_class, response.status_detail),
            tsih: response.tsih.get(),
            data,
            version_max: response.version_max,
            version_active: response.version_active,
        }
    }
}

/// What one Login Request led to.
#[derive(Debug)]
pub enum LoginProgress {
    /// Send this and wait for the next Login Request.
    Reply(LoginReply),
    /// Send this; full feature phase starts behind it.
    Done {
        /// The last Login Response.
        reply: LoginReply,
        /// What was settled.
        outcome: Box<LoginOutcome>,
    },
    /// Send this and close the connection.
    Refuse {
        /// The Login Response with the reason's status.
        reply: LoginReply,
        /// The reason.
        why: Misbehaviour,
    },
}

/// A completed login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginOutcome {
    /// Who logged in.
    pub port: InitiatorPort,
    /// The initiator's name for people.
    pub initiator_alias: Option<String>,
    /// The target, `None` in a discovery session.
    pub target: Option<String>,
    /// Normal or discovery.
    pub session_type: SessionType,
    /// The session's handle, not 0.
    pub tsih: u16,
    /// The connection's id.
    pub cid: u16,
    /// The CHAP name the initiator proved to own.
    pub authenticated_as: Option<String>,
    /// New session or one more connection.
    pub membership: Membership,
    /// Values of this connection.
    pub connection: ConnectionParameters,
}

/// How the connection belongs to a session (RFC 7143 6.3.1, 6.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is the leading connection of a new session.
    Leading {
        /// Values of the session.
        parameters: SessionParameters,
        /// The session of the same initiator port that ends by this login, by its TSIH.
        reinstates: Option<u16>,
    },
    /// It joins a session that exists.
    Joining {
        /// True when a connection with the same CID ends by this login.
        reinstates: bool,
    },
}
