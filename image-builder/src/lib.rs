//! Builds the appliance that isolazi boots.
