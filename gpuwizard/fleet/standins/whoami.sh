#!/bin/sh
echo "${GPUWIZARD_FLEET_USER:-nobody}"
