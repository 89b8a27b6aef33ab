//! Why a session could not go on.

use std::io;

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum SessionError {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("login: {0}")]
    Login(io::Error),
    #[error("login answered with opcode {0:#x}")]
    LoginOpcode(u8),
    /// Status class and detail (RFC 7143 11.13.5).
    #[error("login status {0:#04x}{1:02x}")]
    LoginStatus(u8, u8),
    #[error("login did not converge")]
    LoginEndless,
    #[error("command: {0}")]
    Command(io::Error),
    #[error("unexpected opcode {0:#x}")]
    Opcode(u8),
    #[error("READ CAPACITY failed, status {0:#x}")]
    ReadCapacity(u8),
    #[error("the target has blocks of {0} bytes")]
    BlockLength(usize),
    #[error("block size {command} is not a multiple of {block}")]
    NotBlocks { command: usize, block: usize },
    #[error("{0} blocks are less than one command")]
    TooSmall(u64),
    #[error("opcode {opcode:#x} ended with status {status:#x}")]
    Status { opcode: u8, status: u8 },
    #[error("opcode {0:#x} ends with CHECK CONDITION again and again")]
    CheckCondition(u8),
    #[error("send: {0}")]
    Send(io::Error),
    #[error("receive: {0}")]
    Receive(io::Error),
    #[error("epoll: {0}")]
    Poll(io::Error),
    #[error("target closed the connection")]
    Closed,
    #[error("header digest mismatch")]
    HeaderDigest,
    #[error("data digest mismatch")]
    DataDigest,
    #[error("PDU of {0} bytes is larger than declared")]
    TooLong(usize),
    #[error("opcode {opcode:#x} with unknown ITT {itt:#x}")]
    UnknownTask { opcode: u8, itt: u32 },
    #[error("an R2T asks for {length} bytes at {offset} of a write of {of}")]
    R2tBeyond { offset: usize, length: usize, of: usize },
    #[error("Reject, reason {0:#x}")]
    Reject(u8),
    #[error("outstanding commands were not answered within 5 s")]
    Unanswered,
    #[error("worker panicked")]
    Panicked,
}
