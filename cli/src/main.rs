//! nixply

fn main() {}
