//! Serves conversations.
