//! Identifies the user at the other end of a loopback connection. Linux lists each socket with its owner in
//! /proc/net/tcp and tcp6 (proc(5)); other systems have no such list.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nixply_files::owner;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Number of attempts to find a row: the kernel can miss one, because sockets open and close while it writes the table.
const TRIES: usize = 3;

/// The user at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// This process's user.
    Own,
    /// Root.
    Root,
    /// Another user, or an unknown one.
    Other,
}

/// Returns whether this system identifies the user at the other end of a connection.
pub fn peers_are_known() -> bool {
    cfg!(target_os = "linux") && File::open(TABLES[0]).is_ok()
}

impl Peer {
    /// Returns the user of the connection from `peer` to `local`. Reads a table that can be long.
    pub(super) fn of(peer: SocketAddr, local: SocketAddr) -> Self {
        let rows = |table| File::open(table).map(|file| BufReader::with_capacity(1 << 16, file).lines());
        let user = (0..TRIES).find_map(|_| {
            let tables = TABLES.into_iter().filter_map(|table| rows(table).ok());
            tables.flat_map(|rows| rows.map_while(Result::ok)).find_map(|row| user_of(&row, peer, local))
        });
        let own = rustix::process::geteuid().as_raw();
        match user {
            // This number can mean several users.
            Some(user) if user == owner::overflow_user() && !owner::all_users_have_ids() => Self::Other,
            Some(user) if user == own => Self::Own,
            Some(0) => Self::Root,
            _ => Self::Other,
        }
    }
}

/// Returns the user in a row of the table, if the row is the socket from which `peer` is connected to
/// `local`.
fn user_of(row: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
    let mut columns = row.split_ascii_whitespace().skip(1);
    let (from, to) = (columns.next()?, columns.next()?);
    if address(from)? != canonical(peer) || address(to)? != canonical(local) {
        return None;
    }
    let (user, inode) = (columns.nth(4)?, columns.nth(1)?);
    // A socket that its process has closed has no inode and is listed as root's.
    user.parse().ok().filter(|_| inode != "0")
}

/// Parses an address: 32-bit words in hexadecimal digits, each in the machine's byte order. Ports are
/// numbers.
fn address(text: &str) -> Option<SocketAddr> {
    let (digits, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match digits.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

/// Returns an IPv4 address that is mapped into IPv6 as an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_are_parsed() {
        let v4 = "   4: 0100007F:ABCD 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0 20 4 0 10 -1";
        let v6 = "   0: 00000000000000000000000001000000:ABCD 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 2718 1 0";
        let mapped = "   0: 0000000000000000FFFF00000100007F:ABCD 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 2718 1 0";
        let pair = |ip: &str| [format!("{ip}:43981"), format!("{ip}:8080")].map(|text| text.parse().unwrap());
        let ([from, to], [from6, to6]) = (pair("127.0.0.1"), pair("[::1]"));
        assert_eq!(user_of(v4, from, to), Some(1000));
        assert_eq!(user_of(v4, to, from), None);
        assert_eq!(user_of(v6, from6, to6), Some(1001));
        assert_eq!(user_of(v6, from, to), None);
        assert_eq!(user_of(mapped, from, to), Some(1002));
        assert_eq!(user_of(v4, "[::ffff:127.0.0.1]:43981".parse().unwrap(), to), Some(1000));
        let orphan = v4.replace("31415", "0").replace(" 1000 ", " 0 ");
        assert_eq!(user_of(&orphan, from, to), None);
        for row in ["", "  sl  local_address rem_address   st", "1: x:y z", "1: 0100007F:1F90"] {
            assert_eq!(user_of(row, from, to), None, "{row}");
        }
    }

    #[test]
    fn own_connections_are_identified() {
        if !peers_are_known() {
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let local = server.local_addr().unwrap();
            assert_eq!(Peer::of(peer, local), Peer::Own, "{address}");
            // The other end is closed.
            drop(client);
            assert_eq!(Peer::of(peer, local), Peer::Other, "{address}");
        }
    }
}
