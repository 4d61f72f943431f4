//! Sorts a part of a slice, and leaves equal elements in the very order in which Redis leaves them.
//!
//! `GEOSEARCH ... COUNT` and `SORT ... BY ... LIMIT` show which of several equal elements come first, and Redis sorts for
//! them with an unstable sort: the quicksort of Bentley and McIlroy ("Engineering a Sort Function", 1993), which goes on
//! only with the parts that reach into the wanted range.

use std::cmp::Ordering;
use std::ops::Range;

/// Below so many elements they are inserted one by one.
const FEW: usize = 7;
/// Above so many the pivot is a median of nine, not of three.
const MANY: usize = 40;

/// Sorts `all`, of which `wanted` will be shown. Where that is all of it, Redis has the C library's sort, which is stable.
pub fn sort_for<T>(all: &mut [T], wanted: Range<usize>, compare: impl FnMut(&T, &T) -> Ordering) {
    if wanted == (0..all.len()) {
        all.sort_by(compare);
    } else {
        partial_sort(all, &wanted, compare);
    }
}

/// Sorts `all` so that the elements of `wanted` are where they belong. The others are somewhere on their side of it.
fn partial_sort<T>(
    all: &mut [T],
    wanted: &Range<usize>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) {
    // Not by recursion: there are orders of elements that every step splits badly.
    let mut parts: Vec<_> = std::iter::once(0..all.len()).collect();
    while let Some(part) = parts.pop() {
        let (smaller, larger) = split(&mut all[part.clone()], &mut compare);
        for Range { start, end } in [larger, smaller] {
            let part = part.start + start..part.start + end;
            if part.len() > 1 && part.start < wanted.end && wanted.start < part.end {
                parts.push(part);
            }
        }
    }
}

/// Moves what is smaller than a pivot to the front and what is larger to the end, and returns where they are. A short
/// part is sorted instead.
fn split<T>(
    part: &mut [T],
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) -> (Range<usize>, Range<usize>) {
    let len = part.len();
    if len < FEW {
        for end in 1..len {
            let mut at = end;
            while at > 0 && compare(&part[at - 1], &part[at]).is_gt() {
                part.swap(at - 1, at);
                at -= 1;
            }
        }
        return (0..0, 0..0);
    }
    let pivot = pivot(part, compare);
    part.swap(0, pivot);
    // The pivot is at 0. Before `low` and from `high` on is what equals it; between `low` and `next` is what is smaller,
    // between `last` and `high` what is larger.
    let (mut low, mut next) = (1, 1);
    let (mut last, mut high) = (len, len);
    loop {
        while next < last {
            match compare(&part[next], &part[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    part.swap(low, next);
                    low += 1;
                }
                Ordering::Less => {}
            }
            next += 1;
        }
        while next < last {
            match compare(&part[last - 1], &part[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    high -= 1;
                    part.swap(last - 1, high);
                }
                Ordering::Greater => {}
            }
            last -= 1;
        }
        if next >= last {
            break;
        }
        part.swap(next, last - 1);
        next += 1;
        last -= 1;
    }
    let (smaller, larger) = (next - low, high - next);
    exchange(part, 0, next, low.min(smaller));
    exchange(part, next, len, larger.min(len - high));
    (0..smaller, len - larger..len)
}

/// Swaps the `count` elements from `from` on with the `count` elements before `end`.
fn exchange<T>(part: &mut [T], from: usize, end: usize, count: usize) {
    for at in 0..count {
        part.swap(from + at, end - count + at);
    }
}

fn pivot<T>(part: &[T], compare: &mut impl FnMut(&T, &T) -> Ordering) -> usize {
    let len = part.len();
    let (first, middle, last) = (0, len / 2, len - 1);
    if len == FEW {
        return middle;
    }
    let mut median = |a, b, c| median(part, compare, [a, b, c]);
    if len <= MANY {
        return median(first, middle, last);
    }
    let step = len / 8;
    let low = median(first, first + step, first + 2 * step);
    let mid = median(middle - step, middle, middle + step);
    let high = median(last - 2 * step, last - step, last);
    median(low, mid, high)
}

fn median<T>(
    part: &[T],
    compare: &mut impl FnMut(&T, &T) -> Ordering,
    [a, b, c]: [usize; 3],
) -> usize {
    let mut compare = |a: usize, b: usize| compare(&part[a], &part[b]);
    if compare(a, b).is_lt() {
        match (compare(b, c).is_lt(), compare(a, c).is_lt()) {
            (true, _) => b,
            (false, true) => c,
            (false, false) => a,
        }
    } else {
        match (compare(b, c).is_gt(), compare(a, c).is_lt()) {
            (true, _) => b,
            (false, true) => a,
            (false, false) => c,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_wanted_part_is_sorted_and_nothing_is_lost() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..2000 {
            let (len, values) = (rng.random_range(0..200), rng.random_range(1..100));
            let before: Vec<u32> = (0..len).map(|_| rng.random_range(0..values)).collect();
            let start = rng.random_range(0..=len);
            let wanted = start..rng.random_range(start..=len);
            let mut after = before.clone();
            partial_sort(&mut after, &wanted, u32::cmp);
            let mut sorted = before.clone();
            sorted.sort_unstable();
            assert_eq!(after[wanted.clone()], sorted[wanted.clone()], "{wanted:?} of {before:?}");
            after.sort_unstable();
            assert_eq!(after, sorted);
        }
    }

    #[test]
    fn elements_in_order_or_all_alike_take_no_stack() {
        for all in [vec![1; 100_000], (0..100_000).collect(), (0..100_000).rev().collect()] {
            let mut all: Vec<u32> = all;
            partial_sort(&mut all, &(0..100_000), u32::cmp);
            assert!(all.is_sorted());
        }
    }
}
