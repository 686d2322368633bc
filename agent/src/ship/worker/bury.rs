//! What a receiver will never take.

use std::io;

use super::{
    super::{
        Class, ShipError,
        dead::{DeadLetter, DeadLetters},
    },
    core::{Core, blocking, ns, short},
};
use crate::model::Rfc3339;

impl Core {
    /// Puts away what a receiver will never take. Only when that is durable may the position move on.
    pub(super) async fn bury(&mut self, letters: Vec<DeadLetter>, quiet: bool) -> Result<(), ShipError> {
        if letters.is_empty() {
            return Ok(());
        }
        let Some(mut dead) = self.dead.take() else {
            return Err(ShipError::temporary(
                Class::Local,
                "the dead letters are not open",
            ));
        };
        let buried = blocking(move || {
            let kept = dead.push(&letters);
            Ok((dead, letters, kept))
        });
        let lost = || ShipError::temporary(Class::Local, "dead letters cannot be written");
        let (dead, letters, kept) = buried.await.map_err(|_| lost())?;
        self.dead = Some(dead);
        let kept = kept.map_err(|e| {
            ShipError::temporary(Class::Local, format!("dead letters cannot be written: {e}"))
        })?;
        let not_kept = (letters.len() - kept) as u64;
        self.state.not_kept += not_kept;
        let open = &mut self.state.open;
        for letter in &letters {
            *self.state.rejected.entry(letter.class).or_default() += 1;
            if !quiet {
                *open.rejected.entry(letter.class.as_str().into()).or_default() += 1;
                let range = open.rejected_range.get_or_insert((letter.place, letter.place));
                *range = (range.0.min(letter.place), range.1.max(letter.place));
            }
        }
        if !quiet {
            open.not_kept += not_kept;
        }
        self.publish();
        Ok(())
    }

    /// A dead letter of now.
    pub(super) fn letter(&self, place: u64, id: &str, kind: &str, class: Class, why: &str) -> DeadLetter {
        DeadLetter {
            at: Rfc3339(self.now()).to_string(),
            place,
            id: short(id),
            kind: short(kind),
            class,
            why: short(why),
        }
    }

    /// The dead letters, for a while.
    pub(super) async fn with_dead<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut DeadLetters) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(mut dead) = self.dead.take() else {
            return Err(io::Error::other("the dead letters are not open"));
        };
        let done = blocking(move || {
            let done = act(&mut dead);
            Ok((dead, done))
        });
        let (dead, done) = done.await?;
        self.dead = Some(dead);
        done
    }

    /// Tells of rejected ones where that is due.
    pub(super) async fn report_rejected(&mut self, at_once: bool) {
        let now = self.now();
        let open = &self.state.open;
        let due = at_once || now.saturating_sub(open.rejected_at) >= ns(self.parts().times.gap);
        if open.rejected.is_empty() || !due {
            return;
        }
        self.notes.rejected(&self.state).await;
        let open = &mut self.state.open;
        open.rejected.clear();
        (open.not_kept, open.rejected_range, open.rejected_at) = (0, None, now);
    }
}
