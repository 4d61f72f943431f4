use std::net::IpAddr;

/// True when `host` or `host:port` is this machine's loopback, whatever a resolver says.
pub fn is_loopback(address: &str) -> bool {
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None if address.matches(':').count() == 1 => {
            address.split_once(':').map_or(address, |(host, _)| host)
        }
        None => address,
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_and_not() {
        for yes in ["127.0.0.1:1", "127.9.9.9", "localhost:80", "LOCALHOST", "[::1]:9380", "::1"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "0.0.0.0:1",
            "[::]:1",
            "example.com",
            "localhost.example.com:1",
            "",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
