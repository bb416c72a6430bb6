// Package jsonscan reads single members out of a JSON document without building the document.
//
// [Members] is a set of members by their paths; [Document] goes once over the bytes of a text, checks all of it, and
// notes where the members of the set stand. A [Value] is such a place: a part of the text, and no copy of it.
//
// # What is a document
//
// The grammar is that of RFC 8259, over the whole text, so that nobody who reads it by that grammar reads anything
// else. It is what encoding/json takes, but for three things:
//
//   - A byte order mark before the document is passed over (RFC 8259 §8.1 lets a reader do so).
//   - A text that is not UTF-8 to its end is refused, and so is JSON in UTF-16 or UTF-32: replacing what cannot be read
//     would make two values one.
//   - Half of a surrogate pair (the escape \ud800) in a value that is asked for is refused: readers make different
//     characters of it. It stands where it likes in what is not asked for.
//
// An escaped NUL (\u0000) is a character like any other. Names are compared after their escapes are read, byte by byte;
// they differ in case. In a list a name is an index, counted from 0 and written without leading zeros.
//
// A text that is something else (a form, a picture, an empty body) is no document and has no members; that is no fault.
// One that begins with a brace, a bracket or a quote, or with a whole value and another one behind it, is JSON: where
// it is not exactly one document it is a fault, [Malformed] or [Several].
//
// A name that is on the way to a member and comes twice in its object is a fault of that member when the values differ:
// the reader behind might take the other one. Values are equal when they are the same but for white space and the way
// in which their strings are escaped; numbers are compared as they are written (1 is not 1.0), and the members of
// objects in their order. A name beside the way may come as often as it likes.
//
// # Algorithm
//
// Recursive descent along the paths of the set, and a loop with one bit for each level of nesting below and beside
// them. Nesting ends at 10,000 levels, as in encoding/json. A value that repeats a name is compared with the one before
// it, so that all comparisons together read the text at most twice.
//
// # Invariants
//
// A text is gone over once for all members of a set, whatever their number. Each name in an object on the way costs one
// comparison for each name of the set that could stand there.
//
// # Memory bound
//
// A pass allocates nothing once the document has room for as many places as the set has names. The text of a value
// ([Value.Text]) is the text itself or one copy of exactly its length, which is at most the value's.
//
// # Failure policy
//
// A fault of the whole text fails every member of it, a fault of one member that one and those below it.
package jsonscan
