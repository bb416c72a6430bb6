// Package saleembedded keeps the units of sales in a folder, for one gateway. Everything is in memory as well (see
// filters/sale/internal/book), and the log (filters/store/seglog) has one entry for each unit, the newest of which
// stands.
//
// # Invariants
//
//   - A unit is durable before Take returns that it is taken.
//   - What is decided in memory and is not durable, since the disk failed, errs to one side: a unit that was taken
//     stays taken until its record says that its key is free, and one that came back is taken again after a restart
//     until its record is looked at.
//
// # Failure policy
//
// The disk fails or hangs: Take and Settle are errors, and take nothing where the log is known to be down. A damaged
// entry of the log costs that unit; it is logged with its number. A gateway that is killed loses nothing that was
// acknowledged.
//
// # Memory
//
// That of the book, and some 150 bytes a unit for where its entry lies. The units of a sale that has closed are left
// out when the folder is opened seven days later or more.
package saleembedded
