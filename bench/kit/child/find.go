package child

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Find looks a program up, also where servers usually are and where not every user's PATH leads, and
// where deploy/testdeps.sh puts what no package of the system has. Of several versions of PostgreSQL
// it takes the last. The error is that of [exec.LookPath].
func Find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	patterns := []string{"/usr/sbin/", "/usr/local/sbin/", "/usr/lib/postgresql/*/bin/"}
	if cache, err := os.UserCacheDir(); err == nil {
		patterns = append(patterns, filepath.Join(cache, "sluice", program+"-*")+"/")
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern + program) // the only error is a pattern that is none
		for i := len(found) - 1; i >= 0; i-- {
			if path, err := exec.LookPath(found[i]); err == nil {
				return path, nil
			}
		}
	}
	return "", err
}
