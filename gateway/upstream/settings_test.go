package upstream

import (
	"crypto/tls"
	"reflect"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

// Every setting counts, those too that are added later.
func TestSettingsEqual(t *testing.T) {
	full := Settings{
		Name: "a", Endpoints: []config.Endpoint{{Address: "1"}, {Address: "2"}}, TLS: &tls.Config{}, TLSDigest: "d",
		Timeout: 1, ConnectTimeout: 2, Attempts: 3, OnConnect: true, OnReset: true, Budget: 0.5,
		Hedge: &Hedge{0.9, 1}, Health: &Health{"/", 1, 2}, DNS: 6, KeepAlive: KeepAlive{7, 8},
		Outlier: &Outlier{5, 9, 0.5},
	}
	same := full.clone()
	same.TLS = &tls.Config{}
	if !full.Equal(same) || !same.Equal(full) || !(Settings{}).Equal(Settings{}) {
		t.Error("equal settings are not Equal")
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		changed := full.clone()
		f := reflect.ValueOf(&changed).Elem().Field(i)
		if f.IsZero() {
			t.Fatalf("the test has no %s", name)
		}
		f.SetZero()
		if name == "TLSDigest" { // without it the pointer decides
			changed.TLS = &tls.Config{}
		}
		if full.Equal(changed) || changed.Equal(full) {
			t.Errorf("settings with another %s are Equal", name)
		}
	}
	for name, change := range map[string]func(*Settings){
		"endpoint":      func(s *Settings) { s.Endpoints[1].HTTP2 = true },
		"digest":        func(s *Settings) { s.TLS, s.TLSDigest = &tls.Config{}, "e" },
		"health's time": func(s *Settings) { s.Health.Every++ },
		"hedge's time":  func(s *Settings) { s.Hedge.After++ },
		"share":         func(s *Settings) { s.Outlier.Max = 0.6 },
	} {
		changed := full.clone()
		if change(&changed); full.Equal(changed) {
			t.Errorf("settings with another %s are Equal", name)
		}
	}
}
