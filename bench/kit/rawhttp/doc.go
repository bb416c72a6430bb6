// Package rawhttp fires raw HTTP/1.1 bytes at a gateway and judges what its client got and, byte
// for byte, what the service behind it received.
//
// cases.json is the owner's collection; cases-more.json is ours, in the same form with some fields
// more (see [Case]).
//
// The service keeps every byte of a case. It frames them by the letter of RFC 9112, and reads them
// again as lenient servers do: chunked found anywhere in Transfer-Encoding, the first or the last
// of several lengths, Content-Length before Transfer-Encoding, a bare CR as the end of a line, _
// taken for - in names. Cases that try to smuggle carry a request for /SMUGGLED where it must not
// be read as one. After every case a probe on a new connection shows whether somebody else's
// response is waiting.
//
// Verdicts: PASS; FAIL-SMUGGLE (a request that the client did not send), FAIL-POISON (the probe got
// another response), FAIL-AMBIGUOUS (forwarded with framing or bytes that two readers may take
// differently), FAIL-MUSTNOT, FAIL-POLICY (a denied path reached the service), FAIL-FORWARDED,
// FAIL-REJECTED, FAIL-COUNT, FAIL-BODY, FAIL-WANT; WARN-HANG (nothing unsafe, but neither a
// response nor a close). Strict says beside it whether the case was handled in the best of the ways
// that the RFCs allow.
package rawhttp
