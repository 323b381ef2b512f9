//! Git: pin a commit, read its documents.
