module github.com/sluice-gateway/sluice/sagaclient

go 1.25.0
