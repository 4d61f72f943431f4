use super::{Needs, Way};
use crate::commands::Command;
use crate::proxy::block::Block;
use crate::proxy::request::{Request, Stop};
use crate::resp::{ProtocolError, RequestLimits, Scan};
use crate::strategy::Families;

/// A request that is run with care.
#[derive(Debug)]
pub(in crate::proxy) struct Careful {
    pub request: Request,
    pub needs: Needs,
    /// The request is a whole transaction.
    pub block: Option<Block>,
}

impl Careful {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        self.request.command.map_or("", |command| command.name)
    }

    /// How many replies it has.
    pub fn replies(&self) -> usize {
        self.block.as_ref().map_or(1, |block| block.queued.commands + block.end.commands)
    }
}

/// Requests of one kind that follow each other.
pub(in crate::proxy) struct Batch {
    /// Redis may lack keys.
    partial: bool,
    requests: Vec<Careful>,
    bytes: usize,
}

/// Most requests and most bytes of them that are run at once.
const MOST: usize = 512;
const MOST_BYTES: usize = 1 << 20;

impl Batch {
    pub fn new(partial: bool) -> Batch {
        Batch { partial, requests: Vec::new(), bytes: 0 }
    }

    fn way(&self) -> Option<Way> {
        self.requests.first().map(|first| first.needs.way)
    }

    /// True when what the scanner has found is no request, and the requests here come before it.
    pub fn ends_before(&self, scan: &Result<Scan, ProtocolError>) -> bool {
        !self.requests.is_empty() && !matches!(scan, Ok(Scan::Command(_) | Scan::Nothing(_)))
    }

    /// What a request needs, which lies in `frame`; `None`: no care.
    pub fn needs(
        &self,
        db: u32,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
        families: &Families,
    ) -> Option<Needs> {
        let command = command.filter(|_| self.partial)?;
        let words: Vec<&[u8]> =
            arguments.iter().map(|&(from, to)| &frame[from as usize..to as usize]).collect();
        super::needs(db, command, &words, families)
    }

    /// True when the next request, which needs this, may come before the batch is run.
    pub fn takes(&self, needs: Option<&Needs>) -> bool {
        if self.way() == Some(Way::Transaction) {
            return false;
        }
        let room = self.requests.len() < MOST && self.bytes < MOST_BYTES;
        self.requests.is_empty() || room && needs.map(|needs| needs.way) == self.way()
    }

    /// What the transaction needs that `data` begins with; `None`: no care.
    pub fn needs_of_block(
        &self,
        db: u32,
        data: &[u8],
        block: &Block,
        limits: &RequestLimits,
        families: &Families,
    ) -> Option<Needs> {
        if !self.partial || !block.runs {
            return None;
        }
        let keys = super::transaction::keys(db, &data[..block.queued.length], limits, families);
        (!keys.is_empty()).then_some(Needs { way: Way::Transaction, keys })
    }

    pub fn push(&mut self, request: Request, needs: Needs, block: Option<Block>) {
        self.bytes += request.frame.len();
        self.requests.push(Careful { request, needs, block });
    }

    /// Hands the requests to the session.
    pub fn stop(&mut self) -> Stop {
        self.bytes = 0;
        Stop::Careful(std::mem::take(&mut self.requests))
    }
}
