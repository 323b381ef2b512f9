//! Locations of a state database: what a `${NAME}` of the environment holds, a password among it.

use std::path::Path;

use keywheel::store::Location;

/// Short enough that it can stand in a text by chance.
const SHORT: usize = 8;

/// The first line is a password, the rest a location with `{}` where the password belongs: wherever it shows, the
/// password does not.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (password, location) = text.split_once('\n').unwrap_or(("", text));
    let location = location.trim_end_matches('\n');
    let parsed = Location::parse(&location.replace("{}", password), Path::new("/repository"));
    let is_secret = password.len() >= SHORT && password.chars().all(|c| c.is_ascii_alphanumeric());
    let is_given = is_where_a_password_is(location);
    if !is_secret || !is_given || location.replace("{}", "").contains(password) {
        return parsed.is_ok();
    }
    match &parsed {
        Ok(Location::Sqlite(_)) => {}
        Ok(shown) => assert!(!format!("{shown} {shown:?}").contains(password), "{shown}"),
        Err(error) => assert!(!format!("{error} {error:?}").contains(password), "{error}"),
    }
    parsed.is_ok()
}

/// Is the one `{}` between the user's name and the host, or a parameter of the query by the name of `password`?
fn is_where_a_password_is(location: &str) -> bool {
    let Some((_, rest)) = location.split_once("://").filter(|_| location.matches("{}").count() == 1) else {
        return false;
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let query = tail.split_once('?').map_or("", |(_, query)| query);
    authority.contains(":{}@") || query.split('&').any(|parameter| parameter == "password={}")
}
