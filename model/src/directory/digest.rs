//! Digests by which two nodes find where their directories of a site differ.
//!
//! A host belongs to one of [`LEAVES`] leaves by the hash of its id. A leaf's digest is the wrapping sum
//! of its rows' digests, so it does not depend on order and changes in constant time. A row's digest is
//! taken from its postcard bytes alone: equal rows have equal digests on every node.
//!
//! The hash is not made against an adversary: a site can only deceive itself about its own rows.

use xxhash_rust::xxh3::xxh3_64;

use crate::{HostId, HostRow};

/// Leaves of the tree. At 1,000,000 hosts one leaf has 250, which is what one difference costs to repair.
pub const LEAVES: usize = 4_096;
/// Branches of the tree, each with as many leaves as there are branches.
pub const BRANCHES: usize = 64;

/// Leaves of one branch.
const BRANCH_LEAVES: usize = LEAVES / BRANCHES;
/// Bytes of the longest row that is hashed without an allocation: usual ones have about 300. The buffer
/// is cleared for each row, so a larger one costs every row.
const ROW_BYTES: usize = 1_024;

/// The hash of a host's id, by which it is looked up and belongs to its leaf.
pub(super) fn id_hash(host_id: HostId) -> u64 {
    xxh3_64(host_id.as_bytes())
}

/// The leaf that a host belongs to.
pub fn leaf_of(host_id: HostId) -> u16 {
    leaf_of_hash(id_hash(host_id))
}

pub(super) const fn leaf_of_hash(hash: u64) -> u16 {
    (hash >> 52) as u16
}

/// The digest of one row.
pub fn row_digest(row: &HostRow<'_>) -> u64 {
    let mut buffer = [0; ROW_BYTES];
    match postcard::to_slice(row, &mut buffer) {
        Ok(bytes) => xxh3_64(bytes),
        Err(_) => xxh3_64(&postcard::to_stdvec(row).expect("a row of plain data always encodes")),
    }
}

/// The digest of many, in their order; zero when all are.
fn combined(digests: &[u64]) -> u64 {
    if digests.iter().all(|&digest| digest == 0) {
        return 0;
    }
    let mut bytes = [0; BRANCH_LEAVES * 8];
    for (eight, digest) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(digests) {
        *eight = digest.to_le_bytes();
    }
    xxh3_64(&bytes)
}

/// The leaves of one shard's rows. A branch costs memory once it has a row: most sites are small.
#[derive(Debug, Clone, Default)]
pub(super) struct DigestTree {
    branches: Box<Branches>,
}

type Leaves = [u64; BRANCH_LEAVES];

#[derive(Debug, Clone)]
struct Branches([Option<Box<Leaves>>; BRANCHES]);

impl Default for Branches {
    fn default() -> Self {
        Self([const { None }; BRANCHES])
    }
}

impl DigestTree {
    pub(super) fn add(&mut self, hash: u64, digest: u64) {
        let leaf = self.leaf(hash);
        *leaf = leaf.wrapping_add(digest);
    }

    pub(super) fn subtract(&mut self, hash: u64, digest: u64) {
        let leaf = self.leaf(hash);
        *leaf = leaf.wrapping_sub(digest);
    }

    fn leaf(&mut self, hash: u64) -> &mut u64 {
        let leaf = usize::from(leaf_of_hash(hash));
        let branch = &mut self.branches.0[leaf / BRANCH_LEAVES];
        &mut branch.get_or_insert_with(|| Box::new([0; BRANCH_LEAVES]))[leaf % BRANCH_LEAVES]
    }

    pub(super) fn root(&self) -> u64 {
        combined(&self.branches())
    }

    pub(super) fn branches(&self) -> [u64; BRANCHES] {
        std::array::from_fn(|branch| self.branches.0[branch].as_deref().map_or(0, |leaves| combined(leaves)))
    }

    /// Zeros for a branch that does not exist.
    pub(super) fn leaves(&self, branch: usize) -> Leaves {
        let leaves = self.branches.0.get(branch).and_then(Option::as_deref);
        leaves.copied().unwrap_or([0; BRANCH_LEAVES])
    }

    /// Bytes on the heap.
    pub(super) fn allocation_size(&self) -> usize {
        let used = self.branches.0.iter().flatten().count();
        size_of::<Branches>() + used * size_of::<Leaves>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::host;

    /// Both ends of a link must agree across versions, so these numbers never change.
    #[test]
    fn digests_are_a_sent_format() {
        let host = host(1);
        let mut tree = DigestTree::default();
        tree.add(id_hash(host.host_id), row_digest(&host.as_row()));

        let numbers = (leaf_of(host.host_id), row_digest(&host.as_row()), tree.root());

        assert_eq!(numbers, (1_045, 5_682_039_299_448_640_638, 3_758_635_644_816_670_507));
    }

    #[test]
    fn row_longer_than_the_buffer_has_the_digest_of_its_bytes() {
        let mut host = host(1);
        host.tags_json = Some("x".repeat(2 * ROW_BYTES));

        assert_eq!(row_digest(&host.as_row()), xxh3_64(&postcard::to_stdvec(&host).unwrap()));
    }
}
