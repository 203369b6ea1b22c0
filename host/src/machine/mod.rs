//! Machines: ways to reach an agent.
