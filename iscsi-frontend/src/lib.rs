//! The iSCSI target: sockets and sessions around iscsi-proto.
