package envoydialect_test

import (
	"fmt"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/envoydialect"
)

func TestTrial(t *testing.T) {
	cfg, err := config.Load("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, list, err := envoydialect.Compile(cfg, envoydialect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		fmt.Println(a)
	}
	envoytest.Validate(t, static(t, r))
}
