package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// lastGood is the folder in which a gateway keeps what was in force last. It may hold secrets, so nobody else can read
// it.
type lastGood struct{ dir string }

// good is a configuration that was in force, with the endpoints that were known.
type good struct {
	Version   string                       `json:"version"`
	Resource  string                       `json:"resource"` // the control plane's name for it
	Server    string                       `json:"server"`   // that it came from
	Saved     time.Time                    `json:"saved"`
	Document  json.RawMessage              `json:"document"`
	Endpoints map[string][]config.Endpoint `json:"endpoints"`
}

const (
	goodName     = "last-good.json"
	goodPattern  = "last-good-*.tmp"
	goodHeader   = "sha256 "
	goodBytesMax = 64 << 20
)

var errCorrupted = errors.New("it is not what was written: its checksum does not match")

// open makes the folder and takes out what a crash has left in it.
func (l lastGood) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(l.dir, goodPattern))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// read returns what was kept last, nil where there is nothing. The error says that there is something that cannot be
// used.
func (l lastGood) read() (*good, error) {
	file, err := os.Open(filepath.Join(l.dir, goodName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() // it was read only
	text, err := io.ReadAll(io.LimitReader(file, goodBytesMax))
	if err != nil {
		return nil, err
	}
	header, body, _ := bytes.Cut(text, []byte("\n"))
	if string(header) != goodHeader+checksum(body) {
		return nil, errCorrupted
	}
	g := new(good)
	if err := json.Unmarshal(body, g); err != nil {
		return nil, err
	}
	return g, nil
}

// keep writes what is in force in place of what was. A crash leaves the one or the other.
func (l lastGood) keep(g *good) (err error) {
	body, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil { // it may have been taken away, or come late
		return err
	}
	file, err := os.CreateTemp(l.dir, goodPattern) // for nobody else to read
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = fmt.Fprintf(file, "%s%s\n%s", goodHeader, checksum(body), body)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), filepath.Join(l.dir, goodName)); err != nil {
		return err
	}
	folder, err := os.Open(l.dir)
	if err != nil {
		return nil // the file is there; only a crash of the machine could lose it
	}
	defer folder.Close()
	_ = folder.Sync() // as above
	return nil
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
