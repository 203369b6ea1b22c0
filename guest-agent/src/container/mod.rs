//! Containers: their folders, states and life.
