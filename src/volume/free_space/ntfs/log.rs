//! The log, `$LogFile`: whether all that it tells of was done.

use super::{Fields, LOG_FILE, Result, Table, unsupported};

/// What a restart page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Restart {
    /// Where the log ended then: of two pages the newer one has the higher number.
    position: u64,
    is_clean: bool,
}

/// Whether the volume was left so that nothing in its log has to be done again.
///
/// The dirty flag does not tell that: Windows does not set it while a volume is in use, as the log is all that it needs.
pub(super) fn is_clean(table: &Table<'_>) -> Result<bool> {
    let log = table.record(LOG_FILE)?.data(table.layout)?;
    let mut newest: Option<Restart> = None;
    let mut is_empty = true;
    for number in 0..2_u64 {
        let start = number.saturating_mul(PAGE);
        let mut page = log.read(table.bytes, table.layout, start..start.saturating_add(PAGE))?;
        is_empty &= page.iter().all(|&byte| byte == 0xff);
        let Some(found) = parse(&mut page)? else { continue };
        newest = Some(match newest {
            Some(other) if other.position > found.position => other,
            // Where they are of one age, neither may say otherwise.
            Some(other) if other.position == found.position => {
                Restart { is_clean: other.is_clean && found.is_clean, ..found }
            }
            _ => found,
        });
    }
    // Programs that write no log fill it with ones.
    Ok(newest.map_or(is_empty, |restart| restart.is_clean))
}

/// Reads a restart page. `None` where it is none, or torn: the other one counts then.
fn parse(page: &mut [u8]) -> Result<Option<Restart>> {
    if !page.starts_with(b"RSTR") || super::record::put_back(page).is_err() {
        return Ok(None);
    }
    let fields = Fields(page);
    let (major, minor, page_len) = (fields.u16(28)?, fields.u16(26)?, u64::from(fields.u32(16)?));
    if !matches!((major, minor), (1, 0 | 1) | (2, 0)) || page_len != PAGE {
        let reason =
            format!("its log (version {major}.{minor}, pages of {page_len} bytes) is not understood");
        return Err(unsupported(reason));
    }
    let area = usize::from(fields.u16(24)?);
    let field = |at: usize| area.saturating_add(at);
    let has_users = fields.u16(field(12))? != NOBODY;
    let is_clean = !has_users || fields.u16(field(14))? & CLEAN != 0;
    Ok(Some(Restart { position: fields.u64(field(0))?, is_clean }))
}

/// In bytes.
const PAGE: u64 = 4096;
const NOBODY: u16 = 0xffff;
const CLEAN: u16 = 0x2;
