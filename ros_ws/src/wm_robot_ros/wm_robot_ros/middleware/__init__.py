"""What every node needs of rclpy: conversion, QoS, parameters, subscriptions, lifecycle."""
