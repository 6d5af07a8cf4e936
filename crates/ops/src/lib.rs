//! What each LLB operation means, in terms of the mechanisms.
