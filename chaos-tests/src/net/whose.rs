//! Which process a loopback connection comes from. The kernel tells the inode of a socket by its two ends (`sock_diag`), and one of the
//! process's file descriptors is that socket. Sockets and processes of the same user can be looked at without any right.

use std::fs;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Of this process.
    Process(u32),
    /// Of none that was asked about.
    Other,
    /// There is no such socket any more.
    Gone,
}

/// Which of `processes` owns the socket with `client_port`, whose other end is `relay_port`; both on 127.0.0.1.
pub fn owner(client_port: u16, relay_port: u16, processes: impl Iterator<Item = u32>) -> Owner {
    // A kernel without `tcp_diag` still has its table, which is slow to read.
    let found = asked(client_port, relay_port).or_else(|_| looked_up(client_port, relay_port));
    let Ok(Some(inode)) = found else { return Owner::Gone };
    let wanted = format!("socket:[{inode}]");
    let owner = processes.filter(|process| *process != 0).find(|process| has_open(*process, &wanted));
    owner.map_or(Owner::Other, Owner::Process)
}

/// ```text
/// question: nlmsghdr      length u32 │ type u16 │ flags u16 │ sequence u32 │ port u32                               16 bytes
///           req_v2        family u8 │ protocol u8 │ extensions u8 │ – u8 │ states u32                                 8 bytes
///           sockid        sport be16 │ dport be16 │ src be32×4 │ dst be32×4 │ interface u32 │ cookie u32×2           48 bytes
/// answer:   nlmsghdr      16 bytes
///           inet_diag_msg family, state, timer, retransmits u8 │ sockid │ expires, rqueue, wqueue, uid, inode u32
/// ```
///
/// From `linux/netlink.h`, `linux/sock_diag.h` and `linux/inet_diag.h`; integers in the machine's order where not `be`.
///
/// None: the kernel knows of no such socket. It tells so by an error, like everything that it cannot do.
fn asked(client_port: u16, relay_port: u16) -> Result<Option<u32>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const QUESTION_BYTES: usize = 16 + 8 + 48;
    const INODE_AT: usize = 16 + 4 + 48 + 16;
    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

    let mut question = Vec::with_capacity(QUESTION_BYTES);
    question.extend((QUESTION_BYTES as u32).to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    question.extend([0; 8]);
    question.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(client_port.to_be_bytes());
    question.extend(relay_port.to_be_bytes());
    for address in [LOOPBACK, LOOPBACK] {
        question.extend(address);
        question.extend([0; 12]);
    }
    question.extend([0; 4]);
    // Any cookie.
    question.extend([0xff; 8]);

    // SAFETY: plain system calls; the buffers live as long as the calls, and their lengths are given.
    let (read, answer) = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG);
        if socket < 0 {
            return Err(Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::send(socket.as_raw_fd(), question.as_ptr().cast(), question.len(), 0) < 0 {
            return Err(Error::last_os_error());
        }
        let mut answer = [0_u8; 4_096];
        (libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0), answer)
    };
    let answer = usize::try_from(read).map_err(|_| Error::last_os_error()).map(|length| &answer[..length])?;
    let number = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    match answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes) {
        Some(SOCK_DIAG_BY_FAMILY) => Ok(number(INODE_AT).filter(|inode| *inode != 0)),
        // An error has its number, negative, behind the header.
        Some(_) if number(16) == Some(-libc::ENOENT as u32) => Ok(None),
        _ => Err(Error::other("the kernel does not tell of sockets")),
    }
}

/// A line is `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`.
fn looked_up(client_port: u16, relay_port: u16) -> Result<Option<u32>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let (local, remote) = (format!("0100007F:{client_port:04X}"), format!("0100007F:{relay_port:04X}"));
    let inode = table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next()? == local && words.next()? == remote;
        is_it.then(|| words.nth(6)?.parse().ok()).flatten()
    });
    Ok(inode)
}

fn has_open(process: u32, wanted: &str) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == wanted))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_found_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay_port = listener.local_addr().expect("an address").port();
        let stream = TcpStream::connect(("127.0.0.1", relay_port)).expect("a connection");
        let client_port = stream.local_addr().expect("an address").port();
        let me = std::process::id();
        assert_eq!(owner(client_port, relay_port, [0, me].into_iter()), Owner::Process(me));
        assert_eq!(owner(client_port, relay_port, [1 << 30].into_iter()), Owner::Other);
        assert_eq!(owner(1, relay_port, [me].into_iter()), Owner::Gone);
    }

    #[test]
    fn both_ways_find_the_same_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay_port = listener.local_addr().expect("an address").port();
        let stream = TcpStream::connect(("127.0.0.1", relay_port)).expect("a connection");
        let client_port = stream.local_addr().expect("an address").port();
        let inode = looked_up(client_port, relay_port).expect("a table");
        assert!(inode.is_some());
        assert_eq!(asked(client_port, relay_port).expect("sock_diag"), inode);
        assert_eq!(asked(1, relay_port).expect("sock_diag"), None);
    }
}
