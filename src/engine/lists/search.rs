use crate::engine::keyspace::End;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::List;
use crate::engine::{Call, Keyspace, args};
use crate::resp::Reply;

pub fn linsert(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, place, pivot) = (call.key()?, call.arg(2)?, call.arg(3)?);
    let after = place.eq_ignore_ascii_case(b"after");
    if !after && !place.eq_ignore_ascii_case(b"before") {
        return Err(Stop::SYNTAX);
    }
    let Some(list) = ks.list_all(call.db, key)? else { return Ok(Reply::Int(0)) };
    let len = list.len();
    let Some(at) = list.iter().position(|element| element == pivot) else {
        return Ok(Reply::Int(-1));
    };
    let index = at + usize::from(after);
    let element = call.arg(4)?.clone();
    if index == 0 {
        ks.list_push(call.db, key, End::Front, &[element])?;
    } else if index as u64 == len {
        ks.list_push(call.db, key, End::Back, &[element])?;
    } else {
        ks.list_insert(call.db, key, index, element)?;
    }
    Ok(Reply::Int(len as i64 + 1))
}

pub fn lrem(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (key, count, element) = (call.key()?, int(call.arg(2)?)?, call.arg(3)?);
    let Some(list) = ks.list_all(call.db, key)? else { return Ok(Reply::Int(0)) };
    let matches = list.iter().enumerate().filter(|(_, e)| *e == element).map(|(index, _)| index);
    let most = match count.unsigned_abs() {
        0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let mut gone: Vec<usize> = matches.collect();
    if count < 0 {
        gone.drain(..gone.len().saturating_sub(most));
    } else {
        gone.truncate(most);
    }
    let removed = gone.len() as i64;
    if removed > 0 {
        let mut gone = gone.into_iter().peekable();
        ks.list_retain(call.db, key, |index| gone.next_if_eq(&index).is_none())?;
    }
    Ok(Reply::Int(removed))
}

pub fn lpos(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let (mut rank, mut count, mut max_len) = (1i64, None, 0);
    let mut options = call.args[3..].chunks(2);
    while let Some([name, rest @ ..]) = options.next() {
        let Some(value) = rest.first() else { return Err(Stop::SYNTAX) };
        if name.eq_ignore_ascii_case(b"rank") {
            rank = int(value)?;
            if rank == 0 {
                return Err(Stop::error(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                     second ... or use negative to start from the end of the list",
                ));
            }
        } else if name.eq_ignore_ascii_case(b"count") {
            count = Some(args::ranged(value, 0, i64::MAX, "ERR COUNT can't be negative")?);
        } else if name.eq_ignore_ascii_case(b"maxlen") {
            max_len = args::ranged(value, 0, i64::MAX, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(Stop::SYNTAX);
        }
    }
    let look = |list: &List| {
        let len = list.len();
        let most = if max_len == 0 { usize::MAX } else { max_len as usize };
        let wanted = match count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count as usize,
        };
        // The lowest rank has no positive counterpart, and Redis then takes the last match.
        let skipped = rank.checked_abs().map_or(0, |rank| rank as usize - 1);
        let element = &call.args[2];
        let found = |(index, e)| (e == element).then_some(index as i64);
        let elements = list.iter().enumerate();
        if rank > 0 {
            elements.take(most).filter_map(found).skip(skipped).take(wanted).collect()
        } else {
            let from_back = list.iter().rev().take(most).enumerate();
            let found = from_back.filter_map(found).map(|index| len as i64 - 1 - index);
            found.skip(skipped).take(wanted).collect::<Vec<i64>>()
        }
    };
    let found = ks.list_all(call.db, call.key()?)?.map(look).unwrap_or_default();
    Ok(match count {
        Some(_) => Reply::Array(found.into_iter().map(Reply::Int).collect()),
        None => found.first().map_or(Reply::Nil, |index| Reply::Int(*index)),
    })
}
