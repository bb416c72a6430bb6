// Package sqltest starts real database servers, MariaDB and PostgreSQL, for tests: on a free
// loopback port, in a temporary folder, stopped when the test ends. A missing server fails the
// test; it is never skipped.
//
// Both refuse to run as root. There they run as the users that their packages make, mysql and
// postgres.
package sqltest
