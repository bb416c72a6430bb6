package interop

import "sync"

// inbox reads from a library's connection all the time, because only a connection that is read
// answers pings.
type inbox struct {
	messages chan message
	stop     chan struct{}
	once     sync.Once
}

type message struct {
	kind kind
	data []byte
	err  error // the last one's
}

// newInbox begins to read. read is never called again once it has returned an error.
func newInbox(read func() message) *inbox {
	in := &inbox{messages: make(chan message, 1), stop: make(chan struct{})}
	go func() {
		defer close(in.messages)
		for {
			m := read()
			select {
			case in.messages <- m:
			case <-in.stop:
				return
			}
			if m.err != nil {
				return
			}
		}
	}()
	return in
}

func (in *inbox) receive() (kind, []byte, error) {
	m, open := <-in.messages
	if !open {
		return "", nil, &closed{Code: abnormal, Reason: "received after the end"}
	}
	return m.kind, m.data, m.err
}

// end lets the reader go; the connection must be closed as well.
func (in *inbox) end() { in.once.Do(func() { close(in.stop) }) }
