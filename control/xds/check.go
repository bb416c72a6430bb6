package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/gateway/admin/adminguard"
)

// checkBytesMax bounds the documents of one check: what a folder may have, as JSON.
const checkBytesMax = 32 << 20

// checkConfig says what would become of documents, and offers nothing of them to any node. One check
// runs at a time, so that all together take no more memory than one change does.
func (c *controlPlane) checkConfig(w http.ResponseWriter, r *http.Request) {
	if !c.checking.TryLock() {
		w.Header().Set("Retry-After", "1")
		adminguard.WriteProblem(w, http.StatusServiceUnavailable, "another configuration is being checked")
		return
	}
	defer c.checking.Unlock()
	var in plan.CheckRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, checkBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || len(in.Files) == 0 {
		adminguard.WriteProblem(w, http.StatusBadRequest,
			`the body is a JSON object with files: [{"name": "sluice.yaml", "content": "version: 1\n…"}]`)
		return
	}
	files := make([]config.File, len(in.Files))
	for i, f := range in.Files {
		files[i] = config.File{Name: f.Name, Data: []byte(f.Content)}
	}
	check, err := c.check(files)
	if err != nil {
		adminguard.WriteProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	adminguard.WriteJSON(w, http.StatusOK, check)
}

func (c *controlPlane) check(files []config.File) (plan.Check, error) {
	a := c.applied.Load()
	check := plan.Check{InForce: a.release.version, Outcome: plan.Refused}
	refused := func(err error) plan.Check {
		if f, ok := errors.AsType[*config.FaultsError](err); ok {
			check.Faults = f.Faults
		} else {
			check.Reason = err.Error()
		}
		return check
	}
	d, err := config.ParseDocuments(files, folderOf(a.config))
	if err != nil {
		return refused(err), nil
	}
	check.Version = d.Hash()
	if check.Changes, err = plan.Compare(a.config, d.Config()); err != nil {
		return check, fmt.Errorf("xds: %w", err)
	}
	if setting := needsRestart(a.config, d.Config()); setting != "" {
		check.Restart = []string{setting}
		return refused(fmt.Errorf("%s differs from what is in force: that takes a restart", setting)), nil
	}
	if c.Check != nil {
		if err := c.Check(d); err != nil {
			return refused(err), nil
		}
	}
	r, err := compile(d, c.Envoy)
	if err != nil {
		return refused(err), nil
	}
	check.Version, check.Warnings = r.version, d.Config().Warnings()
	if check.Outcome = plan.Applied; len(check.Changes) == 0 {
		check.Outcome = plan.Unchanged
	}
	return check, nil
}

// folderOf returns what relative paths of a configuration are relative to.
func folderOf(cfg *config.Config) string {
	files := cfg.Files()
	if len(files) == 0 {
		return ""
	}
	if info, err := os.Stat(files[0]); err == nil && info.IsDir() {
		return files[0]
	}
	return filepath.Dir(files[0])
}
