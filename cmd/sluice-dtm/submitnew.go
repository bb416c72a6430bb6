package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmcli/dtmimp"
	"github.com/dtm-labs/dtm/dtmsvr"
	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmsvr/storage/registry"
	"github.com/dtm-labs/logger"
	"github.com/gin-gonic/gin"
)

// submitNew is DTM's submit (api.go, svcSubmit) of a saga whose gid it does not know. One that it knows it refuses
// (412), where submit would run what is not done of it once more, with the branches of the new request. So the gateway
// need not ask before.
func submitNew(c *gin.Context) {
	began := time.Now()
	err := caught(func() error {
		t, err := readSaga(c.Request.Body)
		if err != nil {
			return err
		}
		branches := startSaga(t, began)
		if err := registry.GetStore().MaySaveNewTrans(&t.TransGlobalStore, branches); err != nil {
			return err
		}
		return t.Process(branches)
	})
	status, result := http.StatusOK, gin.H{"dtm_result": dtmcli.ResultSuccess}
	switch {
	case err == nil:
	case errors.Is(err, storage.ErrUniqueConflict):
		status, result = http.StatusPreconditionFailed, gin.H{"message": "gid is known"}
	case errors.Is(err, dtmcli.ErrFailure):
		status, result = http.StatusConflict, gin.H{"dtm_result": dtmcli.ResultFailure, "message": err.Error()}
	case errors.Is(err, dtmcli.ErrOngoing):
		status, result = http.StatusTooEarly, gin.H{"dtm_result": dtmcli.ResultOngoing, "message": err.Error()}
	case errors.Is(err, errNoSaga):
		status, result = http.StatusBadRequest, gin.H{"message": err.Error()}
	default:
		status, result = http.StatusInternalServerError, gin.H{"message": err.Error()}
	}
	if status >= http.StatusInternalServerError { // in DTM's words, which the log knows
		logger.Errorf("%2dms %d %s %s %s", time.Since(began).Milliseconds(), status, c.Request.Method,
			c.Request.RequestURI, err)
	}
	c.JSON(status, result)
}

var errNoSaga = errors.New("it is no saga with a gid, and a payload for each of its steps")

// readSaga is dtmsvr.TransFromContext for a saga, without the log of the whole.
func readSaga(body io.Reader) (*dtmsvr.TransGlobal, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	t := new(dtmsvr.TransGlobal)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSaga, err)
	}
	if t.Gid == "" || t.Gid != dtmimp.Escape(t.Gid) || t.TransType != "saga" || len(t.Steps) == 0 ||
		len(t.Payloads) != len(t.Steps) {
		return nil, errNoSaga
	}
	for _, p := range t.Payloads {
		t.BinPayloads = append(t.BinPayloads, []byte(p))
	}
	if t.Protocol == "" {
		t.Protocol = dtmimp.ProtocolHTTP
	}
	t.Ext.Headers = map[string]string{}
	return t, nil
}

// startSaga is what DTM's TransGlobal.saveNew and transSagaProcessor.GenBranches make of a saga before it is stored.
// DTM's own would write all of it as JSON, twice, for a line of the log that nobody sees.
func startSaga(t *dtmsvr.TransGlobal, now time.Time) []dtmsvr.TransBranch {
	t.Status = dtmcli.StatusSubmitted
	switch {
	case t.RetryInterval != 0:
		t.NextCronInterval = t.RetryInterval
	case t.TimeoutToFail > 0 && t.TimeoutToFail < config.Config.RetryInterval:
		t.NextCronInterval = t.TimeoutToFail
	default:
		t.NextCronInterval = config.Config.RetryInterval
	}
	next := now.Add(time.Duration(t.NextCronInterval) * time.Second)
	t.NextCronTime, t.CreateTime, t.UpdateTime = &next, &now, &now
	if t.Options = dtmimp.MustMarshalString(t.TransOptions); t.Options == "{}" {
		t.Options = ""
	}
	branches := make([]dtmsvr.TransBranch, 0, 2*len(t.Steps))
	for i, step := range t.Steps {
		for _, op := range [...]string{dtmimp.OpCompensate, dtmimp.OpAction} {
			b := dtmsvr.TransBranch{Gid: t.Gid, BranchID: fmt.Sprintf("%02d", i+1), BinData: t.BinPayloads[i],
				URL: step[op], Op: op, Status: dtmcli.StatusPrepared}
			b.CreateTime, b.UpdateTime = &now, &now
			branches = append(branches, b)
		}
	}
	return branches
}
