//! What an initiator did wrong, by name.
