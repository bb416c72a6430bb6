package child

import (
	"os/exec"
	"path/filepath"
)

// Find looks a program up, also where servers usually are and where not every user's PATH leads. Of
// several versions of PostgreSQL it takes the last. The error is that of [exec.LookPath].
func Find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, pattern := range []string{"/usr/sbin/", "/usr/local/sbin/", "/usr/lib/postgresql/*/bin/"} {
		found, _ := filepath.Glob(pattern + program) // the only error is a pattern that is none
		for i := len(found) - 1; i >= 0; i-- {
			if path, err := exec.LookPath(found[i]); err == nil {
				return path, nil
			}
		}
	}
	return "", err
}
