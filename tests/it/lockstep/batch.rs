//! What is sent in one write.

use rand::RngExt;
use support::commands::Commands;

type Command = Vec<Vec<u8>>;

/// Each runs the command that its arguments are.
pub const SCRIPTS: &[&str] = &[
    "return redis.pcall(unpack(ARGV))",
    "return redis.call(unpack(ARGV))",
    "redis.setresp(3) return redis.pcall(unpack(ARGV))",
    "redis.pcall('append',KEYS[1],'x') redis.call(unpack(ARGV)) return redis.call('get',KEYS[1])",
    "local r=redis.pcall(unpack(ARGV)) if type(r)=='table' and r.err then return r.err end return r",
    "for i=1,3 do redis.pcall('hincrby',KEYS[1],i,#ARGV) end return redis.pcall(unpack(ARGV))",
];

#[derive(Clone, Debug)]
pub struct Batch {
    pub commands: Vec<Command>,
}

pub fn one_in(commands: &mut Commands, times: u32) -> bool {
    commands.rng().random_ratio(1, times)
}

fn words(words: &[&str]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn key(commands: &mut Commands) -> Vec<u8> {
    let keys: Vec<String> = Commands::keys().collect();
    keys[commands.rng().random_range(0..keys.len())].clone().into_bytes()
}

/// The next command that depends on no clock.
fn next(commands: &mut Commands) -> Command {
    loop {
        let command = commands.next();
        if !by_the_clock(&command) {
            return command;
        }
    }
}

/// Two servers do not look at the clock at the same time.
fn by_the_clock(command: &[Vec<u8>]) -> bool {
    const WORDS: [&[u8]; 9] =
        [b"ex", b"px", b"setex", b"psetex", b"expire", b"pexpire", b"ttl", b"pttl", b"restore"];
    command.iter().any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

fn in_a_script(commands: &mut Commands) -> Command {
    let script = SCRIPTS[commands.rng().random_range(0..SCRIPTS.len())];
    let mut command = words(&["EVAL", script, "1"]);
    command.push(key(commands));
    command.extend(next(commands));
    command
}

impl Batch {
    pub fn of(command: &[&str]) -> Batch {
        Batch { commands: vec![words(command)] }
    }

    pub fn random(commands: &mut Commands) -> Batch {
        match commands.rng().random_range(0..20) {
            0..=2 => Batch::transaction(commands),
            3..=5 => Batch { commands: vec![in_a_script(commands)] },
            6 => {
                let db = commands.rng().random_range(0..3).to_string();
                Batch::of(&["SELECT", &db])
            }
            7..=11 => Batch { commands: vec![next(commands)] },
            _ => {
                let count = commands.rng().random_range(2..40);
                let one = |_| match one_in(commands, 12) {
                    true => in_a_script(commands),
                    false => next(commands),
                };
                Batch { commands: (0..count).map(one).collect() }
            }
        }
    }

    pub fn transaction(commands: &mut Commands) -> Batch {
        let mut all = vec![words(&["MULTI"])];
        for _ in 0..commands.rng().random_range(1..8) {
            let script = one_in(commands, 8);
            all.push(if script { in_a_script(commands) } else { next(commands) });
        }
        all.push(words(if one_in(commands, 10) { &["DISCARD"] } else { &["EXEC"] }));
        Batch { commands: all }
    }
}

pub fn watch(commands: &mut Commands) -> Batch {
    let keys = [key(commands), key(commands)];
    Batch { commands: vec![[vec![b"WATCH".to_vec()], keys.to_vec()].concat()] }
}

pub fn dump(commands: &mut Commands) -> Command {
    vec![b"DUMP".to_vec(), key(commands)]
}

pub fn restore(commands: &mut Commands, mut dump: Vec<u8>) -> Batch {
    if one_in(commands, 10) {
        let at = commands.rng().random_range(0..dump.len());
        dump[at] ^= 1;
    }
    let key = key(commands);
    let mut command = vec![b"RESTORE".to_vec(), key, b"0".to_vec(), dump];
    if !one_in(commands, 3) {
        command.push(b"REPLACE".to_vec());
    }
    Batch { commands: vec![command] }
}
