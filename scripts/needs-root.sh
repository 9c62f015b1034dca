#!/usr/bin/env bash
# For whoever is not root: arguments that make the tests skip what only root can run, and a line that says so. Nobody else
# skips anything; with CI=true nobody does.
set -euo pipefail
[ "$(id -u)" != 0 ] || exit 0
# Parts of the names of tests that mount, make namespaces or answer on port 53.
tests=(
  # crates/operator/tests: members in mount namespaces of their own
  a_cluster_lives_through_everything a_cluster_of_etcd_ certificates_are_demanded_and_renewed_ones disks:: newer:: replicas::
  trouble::
  # e2e/tests
  bad_input::full_disk:: a_snapshot_that_has_no_room a_gateway_finds_members_in_dns three_members_find_each_other_by_dns
  a_domain_without_members everything_stays_linearizable etcd_itself_passes_the_same_run cuts_silence_one_direction
  cluster_failures::
)
if [ "${CI:-}" = true ]; then
  echo "Not all tests can run here: ${tests[*]} need root" >&2
  exit 1
fi
echo "SKIPPED, since only root can run them: ${tests[*]}" >&2
printf -- '--skip %s ' "${tests[@]}"
