//! Positions as 52-bit geohashes: 26 bits of longitude and 26 of latitude, interleaved, so that near
//! positions mostly have near scores. Source: <https://redis.io/commands/geoadd/>.

pub const LON: Range = Range { min: -180.0, max: 180.0 };
/// The limits of the Mercator projection (EPSG:3857).
pub const LAT: Range = Range { min: -85.05112878, max: 85.05112878 };
/// Bits per coordinate of a stored position.
pub const STEPS: u32 = 26;

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub min: f64,
    pub max: f64,
}

impl Range {
    pub fn contains(&self, degrees: f64) -> bool {
        degrees >= self.min && degrees <= self.max
    }

    /// Where `degrees` lies among 2^steps equal cells.
    fn cell(&self, degrees: f64, steps: u32) -> u32 {
        let offset = (degrees - self.min) / (self.max - self.min);
        (offset * (1u64 << steps) as f64) as u32
    }

    fn bounds(&self, cell: u32, steps: u32) -> Range {
        let cells = (1u64 << steps) as f64;
        let edge = |cell: u32| self.min + (f64::from(cell) / cells) * (self.max - self.min);
        Range { min: edge(cell), max: edge(cell.wrapping_add(1)) }
    }

    fn middle(&self, limits: Range) -> f64 {
        ((self.min + self.max) / 2.0).clamp(limits.min, limits.max)
    }
}

/// Longitude and latitude in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub lon: f64,
    pub lat: f64,
}

impl Position {
    pub fn score(&self) -> f64 {
        Cell::around(*self, STEPS).bits as f64
    }

    /// The middle of the cell that a score names.
    pub fn of_score(score: f64) -> Position {
        let (lon, lat) = Cell { bits: score_bits(score), steps: STEPS }.area();
        Position { lon: lon.middle(LON), lat: lat.middle(LAT) }
    }

    /// The 11 characters of the common geohash. The last would need more bits than there are and is
    /// always 0, as in Redis.
    pub fn text(&self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let lat = Range { min: -90.0, max: 90.0 };
        let bits = interleave(lat.cell(self.lat, STEPS), LON.cell(self.lon, STEPS));
        let mut text = [b'0'; 11];
        for (index, character) in text.iter_mut().take(10).enumerate() {
            *character = ALPHABET[(bits >> (52 - (index + 1) * 5)) as usize & 31];
        }
        text
    }
}

/// A score as an unsigned integer, also outside of what GEOADD makes: what x86-64 compilers make of
/// the cast, which Redis leaves to them.
fn score_bits(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if score < HALF {
        return score as i64 as u64;
    }
    let rest = score - HALF;
    if rest < HALF { (rest as i64 as u64) ^ (1 << 63) } else { 0 }
}

/// A cell of the grid with 2^steps columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub bits: u64,
    pub steps: u32,
}

impl Cell {
    pub fn around(position: Position, steps: u32) -> Cell {
        let (lat, lon) = (LAT.cell(position.lat, steps), LON.cell(position.lon, steps));
        Cell { bits: interleave(lat, lon), steps }
    }

    /// The range of longitudes and that of latitudes.
    pub fn area(&self) -> (Range, Range) {
        let (lat, lon) = (gather(self.bits), gather(self.bits >> 1));
        (LON.bounds(lon, self.steps), LAT.bounds(lat, self.steps))
    }

    /// The cell so many columns to the east and rows to the north, around the edges.
    pub fn moved(&self, east: i32, north: i32) -> Cell {
        let cells = (1u64 << self.steps) - 1;
        // On the outermost edge a cell's number is one too high, and stays so until it moves.
        let step = |cell: u32, by: i32| match by {
            0 => cell,
            by => ((i64::from(cell) + i64::from(by)) as u64 & cells) as u32,
        };
        let (lat, lon) = (gather(self.bits), gather(self.bits >> 1));
        let bits = interleave(step(lat, north), step(lon, east));
        Cell { bits, ..*self }
    }

    /// The least score inside and the least one behind.
    pub fn scores(&self) -> (f64, f64) {
        let shift = 2 * (STEPS - self.steps);
        ((self.bits << shift) as f64, (self.bits.wrapping_add(1) << shift) as f64)
    }
}

/// Bit n of `even` at 2n, of `odd` at 2n + 1.
fn interleave(even: u32, odd: u32) -> u64 {
    spread(even) | spread(odd) << 1
}

/// Moves bit n to 2n.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Moves bit 2n to n.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_undoes_spread() {
        for bits in [0, 1, 2, 0x1234_5678, u32::MAX] {
            assert_eq!(gather(spread(bits)), bits);
            assert_eq!(gather(spread(bits) << 1), 0);
        }
    }

    #[test]
    fn the_example_of_geoadd() {
        let palermo = Position { lon: 13.361389, lat: 38.115556 };
        assert_eq!(palermo.score(), 3479099956230698.0);
        assert_eq!(&Position::of_score(palermo.score()).text(), b"sqc8b49rny0");
    }
}
