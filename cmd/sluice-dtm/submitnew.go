package main

import (
	"errors"
	"net/http"
	"time"
	_ "unsafe" // go:linkname

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/logger"
	"github.com/gin-gonic/gin"
)

//go:linkname saveNew github.com/dtm-labs/dtm/dtmsvr.(*TransGlobal).saveNew
func saveNew(t *dtmsvr.TransGlobal) ([]dtmsvr.TransBranch, error)

// submitNew is DTM's submit for a gid that it does not know. One that it knows it refuses (412), where submit would run
// what is not done of it once more, with the branches of the new request. So the gateway need not ask before.
func submitNew(c *gin.Context) {
	began := time.Now()
	err := caught(func() error {
		t := dtmsvr.TransFromContext(c)
		t.Status = dtmcli.StatusSubmitted
		branches, err := saveNew(t)
		if err != nil {
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
	default:
		status, result = http.StatusInternalServerError, gin.H{"message": err.Error()}
	}
	if status >= http.StatusInternalServerError { // in DTM's words, which the log knows
		logger.Errorf("%2dms %d %s %s %s", time.Since(began).Milliseconds(), status, c.Request.Method,
			c.Request.RequestURI, err)
	}
	c.JSON(status, result)
}
