package config

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"
)

// Store is where records and global limits live: exactly one member is set after Load.
type Store struct {
	Embedded   *EmbeddedStore `json:"embedded"`
	Redis      *RedisStore    `json:"redis"`
	Memory     *MemoryStore   `json:"memory"`
	Encryption *Encryption    `json:"encryption"` // beside any of them
}

func (Store) describe() descriptions {
	return descriptions{
		"":           "Where idempotency records and global limits live: exactly one of embedded, redis, memory.",
		"Embedded":   "Durable, in a folder, for one gateway; the default.",
		"Redis":      "Shared by several gateways.",
		"Memory":     "Lost at restart; for tests.",
		"Encryption": "Responses at rest sealed (XChaCha20-Poly1305).",
	}
}

func (s *Store) derive(f *files) {
	if s.Embedded == nil && s.Redis == nil && s.Memory == nil {
		s.Embedded = new(EmbeddedStore)
		s.Embedded.setDefaults()
	}
}

func (s *Store) check(at site) { at.exactlyOne("a store is", false, "embedded", "redis", "memory") }

// EmbeddedStore is a durable store in a folder, for one gateway. Dir is absolute after Load.
type EmbeddedStore struct {
	Dir        string   `json:"dir" jsonschema:"minLength=1"`
	Timeout    Duration `json:"timeout"` // one step, fsync included
	MaxRecords int      `json:"maxRecords" jsonschema:"minimum=1000,maximum=1000000000"`
}

func (EmbeddedStore) describe() descriptions {
	return descriptions{
		"Dir":        "The folder.",
		"Timeout":    "How long a request waits for the disk before onStoreFailure decides.",
		"MaxRecords": "Live records at most, some 30 bytes of memory each; a claim beyond is a failure of the store.",
	}
}

func (s *EmbeddedStore) setDefaults() {
	*s = EmbeddedStore{Dir: "./data", Timeout: duration(5 * time.Second), MaxRecords: 20_000_000}
}

func (s *EmbeddedStore) derive(f *files) { s.Dir = f.absolute(s.Dir) }

// MemoryStore is lost at restart.
type MemoryStore struct{}

// RedisStore is a store that several gateways share.
type RedisStore struct {
	Addresses []string       `json:"addresses" jsonschema:"minItems=1,uniqueItems=true" config:"example=127.0.0.1:6379"`
	Cluster   bool           `json:"cluster"`
	Username  string         `json:"username"`
	Password  string         `json:"password" config:"secret"`
	TLS       bool           `json:"tls"`
	Timeout   Duration       `json:"timeout"` // one command, dial included
	KeyPrefix string         `json:"keyPrefix"`
	Sentinel  *RedisSentinel `json:"sentinel"` // set: Addresses are those of the sentinels
}

func (RedisStore) describe() descriptions {
	return descriptions{
		"Addresses": "host:port of the server, or of nodes of the cluster.",
		"Cluster":   "Redis Cluster.",
		"Username":  "The ACL user.",
		"Password":  "Its password; set it with ${env:NAME} or ${file:PATH}.",
		"TLS":       "Connect with TLS.",
		"Timeout":   "One command, dial included.",
		"KeyPrefix": "What all keys begin with.",
		"Sentinel":  "The master is found by sentinels, whose addresses are addresses then.",
	}
}

func (r *RedisStore) setDefaults() {
	*r = RedisStore{
		Addresses: []string{"127.0.0.1:6379"}, Timeout: duration(50 * time.Millisecond), KeyPrefix: "sluice:",
	}
}

func (r *RedisStore) check(s site) {
	for i, address := range r.Addresses {
		host, port, err := hostPort(address)
		if err == nil && (host == "" || port == "0") {
			err = errors.New("host and port are needed")
		}
		if err != nil {
			s.fault(s.at("addresses").item(i), "%q is not an address such as 127.0.0.1:6379: %v", address, err)
		}
	}
	if strings.ContainsAny(r.KeyPrefix, "{}") {
		s.fault(s.at("keyPrefix"),
			"%q has a brace, by which a cluster finds the part of a key that says where it lies", r.KeyPrefix)
	}
	if len(r.Addresses) > 1 && r.Sentinel == nil && !r.Cluster {
		s.fault(s.at("addresses"),
			"has %d addresses: more than one are those of a cluster (cluster: true) or of sentinels (sentinel)",
			len(r.Addresses))
	}
	if r.Sentinel != nil && r.Cluster {
		s.fault(s.at("sentinel"), "a cluster finds its masters itself: sentinel and cluster: true do not go together")
	}
}

// RedisSentinel finds the master of a Redis with replicas.
type RedisSentinel struct {
	Master   string `json:"master" jsonschema:"required,minLength=1"` // the name that the sentinels know it by
	Username string `json:"username"`                                 // at the sentinels
	Password string `json:"password" config:"secret"`
}

func (RedisSentinel) describe() descriptions {
	return descriptions{
		"Master":   "The name that the sentinels know the master by.",
		"Username": "The ACL user at the sentinels.",
		"Password": "Its password there; set it with ${env:NAME} or ${file:PATH}.",
	}
}

// Encryption seals the responses that a store keeps. The first key seals, all open.
type Encryption struct {
	Keys []string `json:"keys" jsonschema:"required,minItems=1,uniqueItems=true" config:"secret"` // see ParsedKeys
}

func (Encryption) describe() descriptions {
	return descriptions{
		"Keys": "32 bytes each, in base64: the first seals, all open. To rotate, put a new one in front, " +
			"and take the old one out when the longest ttl is over.",
	}
}

func (e *Encryption) check(s site) {
	for i, key := range e.Keys {
		if b, err := parseKey(key); err != nil {
			s.fault(s.at("keys").item(i), "is not a key in base64") // without the key
		} else if len(b) != encryptionKeyBytes {
			s.fault(s.at("keys").item(i), "has %d bytes, a key has %d", len(b), encryptionKeyBytes)
		}
	}
}

const encryptionKeyBytes = 32

// parseKey reads a key in base64, of either alphabet, padded or not.
func parseKey(s string) ([]byte, error) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	if strings.ContainsAny(s, "-_") {
		return base64.RawURLEncoding.DecodeString(s)
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// ParsedKeys returns the keys; nil without encryption. The configuration has been checked.
func (e *Encryption) ParsedKeys() [][]byte {
	if e == nil {
		return nil
	}
	keys := make([][]byte, len(e.Keys))
	for i, key := range e.Keys {
		keys[i], _ = parseKey(key) // checked
	}
	return keys
}
