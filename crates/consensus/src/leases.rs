//! Leases end by the clocks of the leader, which are in its memory alone. They count once it has proved itself in its term:
//! by then it has applied all that earlier leaders put in the log, the ends of leases among it, and every lease has begun
//! anew. It takes itself for the leader a while longer than it is one, and renews leases: so long is the grace of the next.

use keelson_api::Error;

use crate::lessor::{Lessor, Renewal};
use crate::node::Node;

impl Node {
    fn led_term(&self) -> Option<u64> {
        let status = self.status();
        (status.leader == Some(self.member_id)).then_some(status.term)
    }

    /// Proves that this member leads in this term.
    async fn prove_term(&self, term: u64) -> Result<(), Error> {
        self.read_barrier().await?;
        if self.led_term() == Some(term) { Ok(()) } else { Err(Error::NotLeader) }
    }

    /// The term in which this member leads and the clocks count. Bounded in time by the caller, as all of these.
    pub async fn begin_leases(&self, lessor: &Lessor) -> Result<u64, Error> {
        let term = self.led_term().ok_or(Error::NotLeader)?;
        if !lessor.runs_in(term) {
            self.prove_term(term).await?;
            lessor.begin_anew(term, self.still_leads());
        }
        Ok(term)
    }

    /// Starts the time of a lease anew, if this member leads.
    pub async fn renew_lease(&self, lessor: &Lessor, id: i64) -> Result<Renewal, Error> {
        let term = self.begin_leases(lessor).await?;
        match lessor.renew(id) {
            Renewal::NotFound => {
                // It may have been granted by way of a member that has applied more.
                self.prove_term(term).await?;
                Ok(lessor.renew(id))
            }
            known => Ok(known),
        }
    }

    /// Takes up to `limit` leases that have ended, to be revoked in the term that comes with them. This member has just
    /// proved itself: others may have renewed leases after a leader that stood still.
    pub async fn take_ended_leases(&self, lessor: &Lessor, limit: usize) -> Result<(u64, Vec<i64>), Error> {
        let term = self.begin_leases(lessor).await?;
        self.prove_term(term).await?;
        Ok((term, lessor.take_ended(limit)))
    }
}
