//! Reads the few pickles that hold a data set: a dictionary of strings, numbers, lists and NumPy arrays of bytes, in
//! protocols 2 to 4. Nothing in a pickle is called: the two functions that rebuild an array are recognised by name
//! and read as data; any other is an error. Source of the format: CPython's `pickletools`.

mod machine;
#[cfg(test)]
mod tests;
mod value;

use machine::Machine;
pub(crate) use value::Value;

/// Reads a pickle.
///
/// # Errors
/// What is unexpected, and its byte position.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value<'_>, String> {
    if bytes.first() != Some(&0x80) {
        return Err("not a pickle of protocol 2 to 4".into());
    }
    let mut machine = Machine::new(bytes);
    loop {
        let at = machine.at();
        let wrong = |reason| format!("byte {at} of the pickle: {reason}");
        if let Some(value) = machine.step().map_err(wrong)? {
            return Ok(value);
        }
    }
}
