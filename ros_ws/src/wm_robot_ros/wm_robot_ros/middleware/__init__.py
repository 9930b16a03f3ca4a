"""ROS middleware layer of the nodes: conversion, QoS, parameters, subscriptions, lifecycle."""
