package http2

import (
	"encoding/binary"
	"fmt"
)

// Kinds of frames (RFC 9113 §6).
const (
	frameData = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	frameHeaderLen = 9
	frameMax       = 16 << 10  // payload that is accepted, and that is sent: every peer accepts as much
	windowMax      = 1<<31 - 1 // RFC 9113 §6.9.1
	idMax          = 1<<31 - 1
)

// code is an error code (RFC 9113 §7).
type code uint32

const (
	noError code = iota
	protocolError
	internalError
	flowControlError
	settingsTimeout
	streamClosed
	frameSizeError
	refusedStream
	cancel
	compressionError
	connectError
	enhanceYourCalm
)

// Settings (RFC 9113 §6.5.2).
const (
	settingHeaderTableSize = iota + 1
	settingEnablePush
	settingMaxStreams
	settingInitialWindow
	settingMaxFrame
	settingMaxHeaderList
)

// connError ends the connection.
type connError struct {
	code   code
	reason string
}

func (e connError) Error() string { return fmt.Sprintf("http2: %s (code %d)", e.reason, e.code) }

// Malformation implements what [message.Malformation] looks for.
func (e connError) Malformation() string { return e.reason }

// streamError is why a stream was ended for what its peer did.
type streamError struct {
	id   uint32
	code code
}

func (e streamError) Error() string { return fmt.Sprintf("http2: stream %d: code %d", e.id, e.code) }

// Malformation implements what [message.Malformation] looks for.
func (e streamError) Malformation() string { return errMalformed.Rule }

type frameHeader struct {
	length int
	kind   uint8
	flags  uint8
	id     uint32
}

func (h *frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4],
		id: binary.BigEndian.Uint32(b[5:]) & idMax,
	}
}

func appendFrameHeader(dst []byte, length int, kind, flags uint8, id uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendReset(dst []byte, id uint32, c code) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, frameReset, 0, id), uint32(c))
}

func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, frameWindowUpdate, 0, id), n)
}

func appendPing(dst []byte, flags uint8, data []byte) []byte {
	return append(appendFrameHeader(dst, 8, framePing, flags, 0), data...)
}

func appendGoAway(dst []byte, last uint32, c code) []byte {
	dst = binary.BigEndian.AppendUint32(appendFrameHeader(dst, 8, frameGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(dst, uint32(c))
}

// setting is one of a SETTINGS frame.
type setting struct {
	id    uint16
	value uint32
}

func appendSettings(dst []byte, settings ...setting) []byte {
	dst = appendFrameHeader(dst, 6*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, s.id), s.value)
	}
	return dst
}

// unpad takes the padding off a payload (RFC 9113 §6.1).
func unpad(h *frameHeader, p []byte) ([]byte, error) {
	if !h.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, connError{frameSizeError, "a padded frame without the padding's length"}
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, connError{protocolError, "more padding than payload"}
	}
	return p[1 : len(p)-n], nil
}
