//! The zoo: its networks have the published sizes, and mean the same compiled as interpreted.

mod agreement;
mod loading;
mod sizes;
