//! `CLIENT TRACKING`, `CACHING`, `GETREDIR` and `TRACKINGINFO`.

use bytes::Bytes;

use super::session::Session;
use super::tracking::{Mode, Tracked};
use crate::engine::{Answer, Stop, number};
use crate::resp::Reply;

/// What `CLIENT TRACKING` says.
#[derive(Default)]
struct Options {
    redirect: u64,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<Bytes>,
}

impl Session {
    /// `CLIENT TRACKING ON|OFF [option …]`.
    pub fn tracking(&mut self, args: &[Bytes]) -> Answer<Reply> {
        let options = self.options(&args[3..])?;
        match args[2].to_ascii_lowercase().as_slice() {
            b"on" => self.track(options)?,
            b"off" => self.untrack(),
            _ => return Err(Stop::SYNTAX),
        }
        self.period.listen();
        Ok(Reply::OK)
    }

    fn options(&self, args: &[Bytes]) -> Answer<Options> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"redirect" if rest.len() > 0 => {
                    if options.redirect != 0 {
                        return Err(Stop::error(
                            "ERR A client can only redirect to a single other client",
                        ));
                    }
                    let id = number::int(rest.next().ok_or(Stop::SYNTAX)?)?;
                    let peers = self.period.peers.borrow();
                    let known = u64::try_from(id).ok().filter(|id| peers.contains_key(id));
                    options.redirect = known.ok_or(Stop::error(
                        "ERR The client ID you want redirect to does not exist",
                    ))?;
                }
                b"bcast" => options.broadcast = true,
                b"optin" => options.opt_in = true,
                b"optout" => options.opt_out = true,
                b"noloop" => options.no_loop = true,
                b"prefix" if rest.len() > 0 => options.prefixes.extend(rest.next().cloned()),
                _ => return Err(Stop::SYNTAX),
            }
        }
        Ok(options)
    }

    fn track(&mut self, options: Options) -> Answer<()> {
        if !options.broadcast && !options.prefixes.is_empty() {
            return Err(Stop::error("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        let before = self.peer.tracked.borrow().clone();
        let was = before.as_ref().map(|tracked| tracked.mode);
        if was.is_some_and(|mode| (mode == Mode::Broadcast) != options.broadcast) {
            return Err(Stop::error(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            ));
        }
        if options.broadcast && (options.opt_in || options.opt_out) {
            return Err(Stop::error("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if options.opt_in && options.opt_out {
            return Err(Stop::error("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        if (options.opt_in && was == Some(Mode::OptOut))
            || (options.opt_out && was == Some(Mode::OptIn))
        {
            return Err(Stop::error(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            ));
        }
        let mut tracked = before.unwrap_or_default();
        if options.broadcast {
            collisions(&tracked, &options.prefixes)?;
        }
        let mut tracking = self.period.tracking.borrow_mut();
        tracking.clients += usize::from(was.is_none());
        (tracked.redirect, tracked.no_loop, tracked.broken) =
            (options.redirect, options.no_loop, false);
        tracked.mode = match (options.broadcast, options.opt_in, options.opt_out) {
            (true, ..) => Mode::Broadcast,
            (_, true, _) => Mode::OptIn,
            (.., true) => Mode::OptOut,
            _ => Mode::All,
        };
        if options.broadcast {
            let mut prefixes = options.prefixes;
            if prefixes.is_empty() {
                prefixes.push(Bytes::new());
            }
            for prefix in prefixes {
                tracking.add_prefix(self.peer.id, &prefix);
                tracked.prefixes.insert(prefix);
            }
        }
        *self.peer.tracked.borrow_mut() = Some(tracked);
        Ok(())
    }

    /// `CLIENT TRACKING OFF`, and the end of the connection.
    pub fn untrack(&mut self) {
        let Some(tracked) = self.peer.tracked.take() else { return };
        let mut tracking = self.period.tracking.borrow_mut();
        tracking.clients -= 1;
        tracking.remove_prefixes(self.peer.id, tracked.prefixes.iter());
        if tracking.clients == 0 {
            // From here on nobody notes what happens to the keys.
            tracking.forget_all();
        }
        drop(tracking);
        self.period.listen();
    }

    /// `CLIENT CACHING YES|NO`: about the next command.
    pub fn caching(&mut self, word: &[u8]) -> Answer<Reply> {
        let mut tracked = self.peer.tracked.borrow_mut();
        let Some(tracked) = tracked.as_mut() else {
            return Err(Stop::error(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with \
                 OPTIN or OPTOUT mode enabled",
            ));
        };
        match (word.to_ascii_lowercase().as_slice(), tracked.mode) {
            (b"yes", Mode::OptIn) | (b"no", Mode::OptOut) => tracked.caching = true,
            (b"yes", _) => {
                return Err(Stop::error(
                    "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
                ));
            }
            (b"no", _) => {
                return Err(Stop::error(
                    "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
                ));
            }
            _ => return Err(Stop::SYNTAX),
        }
        Ok(Reply::OK)
    }

    /// `CLIENT GETREDIR`.
    pub fn redirection(&self) -> Reply {
        let tracked = self.peer.tracked.borrow();
        Reply::Int(tracked.as_ref().map_or(-1, |tracked| tracked.redirect as i64))
    }

    /// `CLIENT TRACKINGINFO`.
    pub fn tracking_info(&self) -> Reply {
        let tracked = self.peer.tracked.borrow();
        let mut flags = vec![if tracked.is_some() { "on" } else { "off" }];
        let mut prefixes = Vec::new();
        if let Some(tracked) = &*tracked {
            let (mode, caching) = match tracked.mode {
                Mode::All => (None, ""),
                Mode::Broadcast => (Some("bcast"), ""),
                Mode::OptIn => (Some("optin"), "caching-yes"),
                Mode::OptOut => (Some("optout"), "caching-no"),
            };
            flags.extend(mode);
            flags.extend(Some(caching).filter(|_| tracked.caching));
            flags.extend(Some("noloop").filter(|_| tracked.no_loop));
            flags.extend(Some("broken_redirect").filter(|_| tracked.broken));
            prefixes.extend(tracked.prefixes.iter().cloned().map(Reply::Bulk));
        }
        let flags = flags.into_iter().map(Reply::bulk).collect();
        Reply::Map(vec![
            (Reply::bulk("flags"), Reply::Set(flags)),
            (Reply::bulk("redirect"), self.redirection()),
            (Reply::bulk("prefixes"), Reply::Array(prefixes)),
        ])
    }
}

/// Prefixes of one client must not overlap: it would be told twice.
fn collisions(tracked: &Tracked, prefixes: &[Bytes]) -> Answer<()> {
    let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
    let fault = |prefix: &Bytes, kind: &str, other: &Bytes| {
        let (prefix, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
        Stop::failed(format!(
            "ERR Prefix '{prefix}' overlaps with {kind} prefix '{other}'. Prefixes for a single \
             client must not overlap."
        ))
    };
    for (at, prefix) in prefixes.iter().enumerate() {
        if let Some(other) = tracked.prefixes.iter().find(|other| overlap(prefix, other)) {
            return Err(fault(prefix, "an existing", other));
        }
        if let Some(other) = prefixes[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return Err(fault(prefix, "another provided", other));
        }
    }
    Ok(())
}
