//! Distances on the sphere, in metres, by the haversine formula. The order of the operations is part
//! of the result: GEOSEARCHSTORE's distances are scores, equal to Redis's to the last bit.

use super::hash::Position;

/// The sphere's radius in metres, as Redis has it.
pub const EARTH: f64 = 6372797.560856;

const DEGREE: f64 = std::f64::consts::PI / 180.0;

pub fn radians(degrees: f64) -> f64 {
    degrees * DEGREE
}

pub fn degrees(radians: f64) -> f64 {
    radians / DEGREE
}

/// Along a meridian.
pub fn between_latitudes(a: f64, b: f64) -> f64 {
    EARTH * (radians(b) - radians(a)).abs()
}

pub fn between(a: Position, b: Position) -> f64 {
    let v = ((radians(b.lon) - radians(a.lon)) / 2.0).sin();
    if v == 0.0 {
        return between_latitudes(a.lat, b.lat);
    }
    let (lat_a, lat_b) = (radians(a.lat), radians(b.lat));
    let u = ((lat_b - lat_a) / 2.0).sin();
    let a = u * u + lat_a.cos() * lat_b.cos() * v * v;
    2.0 * EARTH * a.sqrt().asin()
}
